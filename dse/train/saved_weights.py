"""Saved models: ``save: weights`` keeps each trial's trained parameters as ``weights/UID.safetensors`` in the results.

Files of safetensors (Hugging Face) hold tensors and text alone, and other programs read them. Each tensor has the name
that the parameter has in the task's plain model; the metadata say what the trial is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.files import replacing
from dse.results.record import OK
from dse.train.weights import FOLDER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dse.results.record import Record
    from dse.trial import Trial


def saved_path(results: Path, uid: str) -> Path:
    """The file of a trial's saved parameters."""
    return results / FOLDER / f"{uid}.safetensors"


def write_saved(results: Path, trial: Trial, parameters: Mapping[str, Tensor]) -> None:
    """Writes a trial's parameters; the file appears whole or not at all. Raises OSError where it cannot be written."""
    from safetensors.torch import save_file

    path = saved_path(results, trial.uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"format": "pt", "uid": trial.uid, "recipe": trial.recipe.name, "trial": json.dumps(trial.spec)}
    with replacing(path) as draft:
        save_file({name: value.contiguous() for name, value in parameters.items()}, draft, about)


def without_saved(records: Iterable[Record], results: Path) -> int:
    """How many finished trials have no saved parameters, because they were trained without ``save: weights``."""
    done = (record for record in records if record.status == OK and "post" not in record.trial["recipe"])
    return sum(not saved_path(results, record.uid).exists() for record in done)


def load_model(results: Path | str, uid: str, data_dir: Path | str | None = None) -> nn.Module:
    """A trial's trained model, unquantized, on the CPU; ``quantize_(model, recipe)`` makes its layers the recipe's.

    ``uid``: the trial's, or the beginning of it; ``data_dir``: the user's own data sets, where the task needs some.
    Raises UserError where there is no such file or several, and for a file that is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from dse.pack.starts import trained_model
    from dse.trial import Trial

    found = sorted((Path(results) / FOLDER).glob(f"{uid}*.safetensors"))
    if len(found) != 1:
        why = f"{len(found)} trials begin with {uid!r}" if found else f"no weights of {uid!r}"
        raise UserError(f"{why} in {Path(results) / FOLDER}; a sweep with `save: weights` keeps them")
    try:
        with safe_open(found[0], framework="pt") as file:
            about, parameters = (
                file.metadata(),
                {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118 - no mapping
                },
            )
    except SafetensorError as error:
        raise UserError(f"{found[0]} is damaged: {error}") from None
    trial = Trial.from_spec(json.loads(about["trial"]), about["recipe"])
    return trained_model(trial, trial.task.load(Path(data_dir) if data_dir else None), parameters)


__all__ = ["load_model", "saved_path", "without_saved", "write_saved"]
