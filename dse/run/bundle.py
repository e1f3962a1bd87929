"""A bundle: the trials of sweeps in one JSON file, for a machine that cannot read sweep files.

Such a machine needs torch and numpy only. The file calls itself a parcel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import UserError
from dse.files import unreadable
from dse.tasks.own import find, is_path
from dse.trial import Trial

if TYPE_CHECKING:
    from dse.sweep import Sweep

VERSION = 1


@dataclass(frozen=True)
class BundledCell:
    """A sweep's cell, as far as executors need it."""

    trial: Trial
    config: str
    baseline_uid: str

    @property
    def uid(self) -> str:
        return self.trial.uid


@dataclass(frozen=True)
class BundleJob:
    """The trials of one task of one sweep, seed after seed, so that an interrupted job has whole seeds.

    ``name``: the sweep's name and the task's label.
    """

    name: str
    items: tuple[BundledCell, ...]


def jobs_of(sweep: Sweep, done: Iterable[str] = ()) -> list[BundleJob]:
    """One per task, in the order of the file, without trials that are ``done`` (uids)."""
    known = frozenset(done)
    groups: dict[str, list[BundledCell]] = {}
    for cell in sweep.cells:
        if cell.uid not in known:
            groups.setdefault(str(cell.labels["task"]), []).append(
                BundledCell(cell.trial, cell.config, cell.baseline_uid)
            )
    return [
        BundleJob(f"{sweep.name}: {task}", tuple(sorted(items, key=lambda item: item.trial.seed)))
        for task, items in groups.items()
    ]


def write_bundle(jobs: Iterable[BundleJob], path: Path) -> None:
    """Raises UserError when the file cannot be written."""
    content = {"parcel": VERSION, "jobs": [{"name": job.name, "items": [_plain(i) for i in job.items]} for job in jobs]}
    try:
        path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def read_bundle(path: Path) -> list[BundleJob]:
    """The jobs of a file. Raises UserError for a file that is none, or whose trials mean something else here."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["parcel"]
        jobs = [(str(job["name"]), list(job["items"])) for job in content["jobs"]]
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no parcel; python -m dse.run.away plan SWEEP --out FILE makes one") from None
    if version != VERSION:
        raise UserError(f"{path} is a parcel of version {version}, this program reads version {VERSION}")
    return [BundleJob(name, tuple(_item(item, path) for item in items)) for name, items in jobs]


def _plain(item: BundledCell) -> dict[str, Any]:
    trial = item.trial
    own = {"uid": trial.uid, "recipe": trial.recipe.name, "config": item.config, "baseline_uid": item.baseline_uid}
    return own | {"spec": trial.spec}


def _item(data: Mapping[str, Any], path: Path) -> BundledCell:
    if is_path(name := data["spec"]["task"]):  # a bundle was made from sweeps to be run: it is code, as they are
        find(name)
    trial = Trial.from_spec(data["spec"], data["recipe"])
    if trial.uid != data["uid"]:
        raise UserError(
            f"{path}: trial {data['uid']} is {trial.uid} here: the parcel is of another version; plan it anew"
        )
    return BundledCell(trial, data["config"], data["baseline_uid"])


__all__ = ["VERSION", "BundleJob", "BundledCell", "jobs_of", "read_bundle", "write_bundle"]
