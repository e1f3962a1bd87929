"""Golden of checkpoints: files written in the middle of trainings, found by today's lookup, read, and gone on from."""

from __future__ import annotations

import json
import pickletools
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.makers.common import EXACT, FOLDER, PROCESSOR, digest, processor
from tests.golden.makers.records import CASES, content
from tests.records import OF_THE_MACHINE

WRITTEN = FOLDER / "checkpoints"
PACKS = ("mixed", "spam", "halved")
"""Sweeps of ``cases`` whose cells train as one pack: rules about weights, schedules, delayed scales and probes; an
optimizer and a loss scaling with a memory; a pack that judges itself at rungs."""
STOP = 3


def write_checkpoints() -> Path:
    """Trains each pack until STOP, and leaves its checkpoint."""
    from dse.train.checkpoint import Checkpoints, Left
    from dse.train.loop import run_pack

    shutil.rmtree(WRITTEN, ignore_errors=True)
    for name in PACKS:
        seen: list[int] = []
        (WRITTEN / name).mkdir(parents=True)
        checkpoints = Checkpoints(WRITTEN / name, leaving=partial(_is_long, seen))
        try:
            run_pack(*_pack(name, checkpoints, partial(_see, seen)))
        except Left:
            continue
        raise RuntimeError(f"{name} left no checkpoint")
    return WRITTEN


def _see(seen: list[int], step: int, steps: int) -> None:
    seen.append(step)


def _is_long(seen: list[int]) -> bool:
    return len(seen) == STOP


def checkpoint() -> dict[str, Any]:
    """Of each pack: its files, the classes pickled in them, what is in them, and the records of going on from them."""
    found: dict[str, Any] = {PROCESSOR: processor()}
    for name in PACKS:
        folder = WRITTEN / name
        (path,) = folder.glob("checkpoints/*/*.pt")
        found[f"{name}: file"] = path.relative_to(folder).as_posix()
        found[f"{name}: members"] = (path.parent / "members").read_text(encoding="utf-8").split("\n")
        found[f"{name}: classes"] = sorted(_classes(path))
        found[f"{name}: content"] = dict(_tree(_load(path)))
        resumed, whole = _resumed(name), _trained(name)
        for own in (*resumed, *whole):
            for fact in OF_THE_MACHINE:
                own["pack"].pop(fact, None)
        for own in resumed:
            found[f"{name}: {own['config']} seed {own['seed']} {own['uid']}"] = own
        found[f"{EXACT}{name}: records"] = digest(json.dumps(resumed))
        for own in resumed:
            own["pack"].pop("resumed_at", None)
        found[f"{EXACT}{name}: as without an interruption"] = resumed == whole
    return found


def _pack(name: str, checkpoints: Any = None, on_step: Any = None) -> tuple[Any, Any, Any]:
    """The trials of a sweep, what they train with, and their names."""
    from dse.run.queue.final_results import halving_rule
    from dse.sweep import load_sweep
    from dse.train.loop import TrainContext
    from dse.train.options import RunOptions

    sweep = load_sweep(CASES / f"{name}.yaml")
    setup = TrainContext(
        RunOptions(halving=halving_rule(sweep), probes=sweep.probes), checkpoints=checkpoints, on_step=on_step
    )
    return [cell.trial for cell in sweep.cells], setup, [cell.config for cell in sweep.cells]


def _trained(name: str) -> list[dict[str, Any]]:
    from dse.train.loop import run_pack

    return [content(record) for record in run_pack(*_pack(name))]


def _resumed(name: str) -> list[dict[str, Any]]:
    """The records of a pack that finds its checkpoint in a copy of the folder."""
    from dse.train.checkpoint import Checkpoints
    from dse.train.loop import run_pack

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a checkpoint from another processor
        results = Path(shutil.copytree(WRITTEN / name, Path(folder) / "results"))
        _as_of_these_versions(results)
        found = [content(record) for record in run_pack(*_pack(name, Checkpoints(results)))]
    for own in found:
        own["pack"].pop("resumed_from", None)
    return found


def _as_of_these_versions(results: Path) -> None:
    """A checkpoint means nothing to other versions of torch: it is given those at hand, where they differ."""
    import torch

    from dse.train.loop import versions

    own = {name: str(version) for name, version in versions().items()}
    for path in results.glob("checkpoints/*/*.pt"):
        kept = _load(path)
        if kept["setting"]["versions"] != own:
            kept["setting"]["versions"] = own
            torch.save(kept, path)


def _load(path: Path) -> dict[str, Any]:
    import torch

    kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return kept


def _classes(path: Path) -> set[str]:
    """Everything that the file imports when it is read: where one of them moves, it cannot be read any more."""
    with zipfile.ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        return {str(value) for code, value, _ in pickletools.genops(file.read(name)) if code.name == "GLOBAL"}


def _tree(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path -> type, or dtype and shape."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, f"{value.dtype} {list(value.shape)}"
    elif isinstance(value, Mapping) and path not in ("processor", "setting.versions"):
        for name, inner in value.items():
            yield from _tree(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(one, torch.Tensor | Mapping) for one in value):
        for number, inner in enumerate(value):
            yield from _tree(inner, f"{path}[{number}]")
    else:
        yield path, type(value).__name__
