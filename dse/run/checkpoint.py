"""Checkpoints of packs: ``checkpoints/KEY/step-N.pt`` in the results folder, so that long trainings survive a crash.

KEY names the members. A file appears whole or not at all (written beside, flushed, renamed), the two newest stay, and
one that cannot be read is passed over for the one before. Members are independent, so each is found wherever a pack
that it was in has left it. Files of another torch, arithmetic, device, kernels or data mean nothing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

FOLDER = "checkpoints"
EVERY = 60.0
"""Seconds of training between checkpoints, and before the first: short trials never pay."""
_SHARE = 20
"""Training takes at least so many times as long as its checkpoints."""
_KEPT = 2
_MEMBERS = "members"
_TORN = (OSError, ValueError, KeyError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)

Setting = Mapping[str, Any]
"""What a checkpoint was made with; it is for a training with an equal one only."""


class Left(BaseException):
    """Ends a training that was asked to leave; its checkpoint is written. No ``Exception``: no trial has failed."""


@dataclass(frozen=True)
class Part:
    """``places`` of trials that train together, and the file that they go on from; None: from the beginning."""

    places: tuple[int, ...]
    path: Path | None


class Checkpoints:
    """Those of a ``results`` folder, as one worker writes and reads them.

    ``leaving``: asked after every step; once true, the training writes a checkpoint and leaves. ``trouble``: why there
    are none, in words; training goes on without.
    """

    def __init__(self, results: Path, every: float = EVERY, leaving: Callable[[], bool] = lambda: False) -> None:
        self._folder, self._results, self._every = results / FOLDER, results, every
        self.leaving = leaving
        self.trouble = ""
        self.begin()

    def begin(self) -> None:
        """A training begins: the next checkpoint is due after a while."""
        self._next = time.monotonic() + self._every

    def due(self) -> bool:
        """Whether it is time to write."""
        return not self.trouble and (time.monotonic() >= self._next or self.leaving())

    def write(self, uids: Sequence[str], step: int, content: Mapping[str, Any]) -> None:
        """Writes a checkpoint of a pack durably; raises Left where the training is to end with it.

        A folder that cannot be reached or written is noted as ``trouble``, and training goes on.
        """
        start = time.monotonic()
        try:
            if not self._results.is_dir():
                raise FileNotFoundError(2, "the results folder is not reachable from here")
            own = self._folder / key(uids)
            if not (own / _MEMBERS).exists():
                own.mkdir(parents=True, exist_ok=True)
                _put(own / _MEMBERS, lambda path: path.write_text("\n".join(uids)))
            _put(own / f"step-{step}.pt", lambda path: _save(content, path))
            _prune(own, step)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
            self.trouble = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
            return
        now = time.monotonic()
        self._next = now + max(self._every, _SHARE * (now - start))
        if self.leaving():
            raise Left

    def parts(self, uids: Sequence[str], together: bool) -> list[Part]:
        """How trials are to be trained: each with those that are in the same newest file, the others on their own.

        ``together``: all from one file of just these trials, or from the beginning (halving compares neighbors).
        """
        found: list[tuple[int, Path, list[str]]] = []
        for folder in sorted(self._folder.glob("*/")):
            members = _members(folder)
            fits = set(members) == set(uids) if together else not set(members).isdisjoint(uids)
            if fits and (path := _newest(folder)):
                found.append((_step(path), path, members))
        found.sort(key=lambda one: one[0])
        best = {uid: path for _, path, members in found for uid in members}
        where = [best.get(uid) for uid in uids]
        order = sorted(range(len(uids)), key=lambda i: str(where[i] or ""))
        return [Part(tuple(places), path) for path, places in groupby(order, key=lambda i: where[i])]

    def forget(self, uids: Sequence[str]) -> None:
        """Removes what this very pack has left: its members are to start anew."""
        shutil.rmtree(self._folder / key(uids), ignore_errors=True)


def read(path: Path, setting: Setting) -> dict[str, Any] | None:
    """The content of a checkpoint, on the CPU; None where it has gone, or was made with another ``setting``."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _TORN:
        return None
    same = isinstance(content, dict) and content.get("setting") == dict(setting)
    return content if same else None


def clean(results: Path, done: AbstractSet[str]) -> None:
    """Removes the checkpoints of packs whose members all have a result; what resists stays."""
    with suppress(OSError):
        for folder in (results / FOLDER).glob("*/"):
            members = _members(folder)
            if members and done >= set(members):
                shutil.rmtree(folder, ignore_errors=True)


def key(uids: Sequence[str]) -> str:
    """Names a pack by its members, in any order."""
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()[:16]


def _newest(folder: Path) -> Path | None:
    """The newest file of a pack that is whole: every byte is checked."""
    return next(filter(_whole, sorted(folder.glob("step-*.pt"), key=_step, reverse=True)), None)


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except _TORN:
        return False


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _members(folder: Path) -> list[str]:
    try:
        return (folder / _MEMBERS).read_text().split()
    except (OSError, UnicodeDecodeError):
        return []


def _save(content: Mapping[str, Any], path: Path) -> None:
    import torch

    torch.save(dict(content), path)


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """A file appears whole, under its name, and durably."""
    from dse.run.shards import sync_folder

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        fd = os.open(beside, os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def _prune(folder: Path, step: int) -> None:
    """Leaves the file of this step and the one before; later ones could not be read, or this would not be written."""
    paths = sorted(folder.glob("step-*.pt"), key=_step, reverse=True)
    keep = [path for path in paths if _step(path) <= step][:_KEPT]
    torn = folder.glob(".step-*")
    for path in {*paths, *torn}.difference(keep):
        with suppress(OSError):
            path.unlink()


__all__ = ["EVERY", "FOLDER", "Checkpoints", "Left", "Part", "Setting", "clean", "key", "read"]
