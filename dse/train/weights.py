"""Trained weights: what other trials start from, one file per trial, ``weights/UID.pt`` in the results folder.

A file holds the parameters of the plain model by name, as they were after the last step. Trials that need the weights
of others (``Trial.needs``) find them here; a worker that does not find them trains those trials first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dse.files import replacing

if TYPE_CHECKING:
    from dse.pack.starts import ModelWeights
    from dse.trial import Trial

FOLDER = "weights"


def weights_path(results: Path, trial: Trial) -> Path:
    """The file of a trial's trained weights."""
    return results / FOLDER / f"{trial.uid}.pt"


def missing(trials: Iterable[Trial], results: Path) -> list[Trial]:
    """The trials that have to be trained before these, because their weights are not in the folder; each once, those
    that others start from first."""
    found: dict[str, Trial] = {}
    for trial in trials:
        for needed in trial.needs:
            if needed.uid not in found and not weights_path(results, needed).exists():
                found |= {one.uid: one for one in missing([needed], results)}
                found[needed.uid] = needed
    return list(found.values())


def write_weights(results: Path, trial: Trial, parameters: ModelWeights) -> None:
    """Writes a trial's weights; the file appears whole or not at all. Raises OSError where it cannot be written."""
    import torch

    path = weights_path(results, trial)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        torch.save({"uid": trial.uid, "parameters": dict(parameters)}, draft)


def read_weights(results: Path, trial: Trial) -> ModelWeights | None:
    """A trial's weights; None where there are none. A damaged file counts as none, with a line on standard error."""
    import torch

    path = weights_path(results, trial)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return dict(content["parameters"]) if content["uid"] == trial.uid else None
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever damage makes of it
        said = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{path} cannot be read ({said}): {trial.recipe.name} is trained again", file=sys.stderr, flush=True)
        return None


__all__ = ["FOLDER", "missing", "read_weights", "weights_path", "write_weights"]
