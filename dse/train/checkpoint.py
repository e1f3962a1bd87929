"""Checkpoints of packs: ``checkpoints/KEY/step-N.pt`` in the results folder, so that long trainings survive a crash.

KEY names the members. A file appears whole or not at all (written beside, flushed, renamed), the two newest stay, and
a damaged one is removed, with a line on standard error, and the one before is used. Members are independent, so
each is found in the checkpoint of whatever pack it was in last. Packs that rank their own members (``halving``) depend
on who is in them, so their files serve the very same trials only. Files of another torch, arithmetic, device, kernels
or data are ignored; files of another processor are used, with a warning (``dse.train.resume``).
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dse.files import replacing

FOLDER = "checkpoints"
EVERY = 60.0
"""Seconds of training between checkpoints, and before the first: short trials never pay."""
_SHARE = 20
"""Training takes at least so many times as long as its checkpoints."""
_KEPT = 2
_RANKED = "-judged"
"""Ends KEY for a pack that ranks its own members."""
_MEMBERS = "members"

ContentKey = Mapping[str, Any]
"""Settings that a checkpoint was made with; it serves only trainings with equal ones."""


class Left(BaseException):
    """Ends a training that was asked to leave; its checkpoint is written. No ``Exception``: no trial has failed."""


@dataclass(frozen=True)
class Part:
    """Trials that train together: their ``places``, and the files to continue from, all of one ``step`` (none: from
    the beginning). ``ranked``: the file is of a pack that ranks its own members."""

    places: tuple[int, ...]
    paths: tuple[Path, ...]
    step: int = 0
    ranked: bool = False


class Checkpoints:
    """The checkpoints of a ``results`` folder, as one worker writes and reads them.

    ``leaving``: called after every step; once true, the training writes a checkpoint and leaves. ``trouble``: why no
    checkpoint could be written; training goes on without.
    """

    def __init__(self, results: Path, every: float = EVERY, leaving: Callable[[], bool] = lambda: False) -> None:
        self._folder, self._results, self._every = results / FOLDER, results, every
        self.leaving = leaving
        self.trouble = ""
        self.begin()

    def begin(self) -> None:
        """Starts the clock of a new training: its first checkpoint is due after ``every`` seconds."""
        self._next = time.monotonic() + self._every

    def due(self) -> bool:
        """Whether it is time to write."""
        return not self.trouble and (time.monotonic() >= self._next or self.leaving())

    def write(self, uids: Sequence[str], step: int, content: Mapping[str, Any], ranked: bool = False) -> None:
        """Writes a checkpoint of a pack durably; ``ranked``: of one that ranks its own members.

        A folder that cannot be reached or written is noted as ``trouble``, and training goes on.
        """
        start = time.monotonic()
        try:
            if not self._results.is_dir():
                raise FileNotFoundError(2, "the results folder is not reachable from here")
            own = self._folder / (key(uids) + _RANKED * ranked)
            if not (own / _MEMBERS).exists():
                own.mkdir(parents=True, exist_ok=True)
                _put(own / _MEMBERS, lambda path: path.write_text("\n".join(uids), encoding="utf-8"))
            _put(own / f"step-{step}.pt", lambda path: _save(content, path))
            _prune(own, step)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
            self.trouble = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
            return
        now = time.monotonic()
        self._next = now + max(self._every, _SHARE * (now - start))

    def parts(self, uids: Sequence[str], ranked: bool = False, limit: int | None = None) -> list[Part]:
        """Divides trials into parts to train together: those whose newest files are of the same step.

        ``ranked``: the pack ranks its own members, and may have left a file as such; ``limit``: files of other packs
        are used up to this step.
        """
        if ranked and (path := _newest(self._folder / (key(uids) + _RANKED))):
            return [Part(tuple(range(len(uids))), (path,), _step(path), ranked=True)]
        found: list[tuple[int, Path, list[str]]] = []
        for folder in sorted(self._folder.glob("*/")):
            members = [] if folder.name.endswith(_RANKED) else _members(folder)
            if not set(members).isdisjoint(uids) and (path := _newest(folder, limit)):
                found.append((_step(path), path, members))
        found.sort(key=lambda one: one[0])
        best = {uid: (step, path) for step, path, members in found for uid in members}
        steps: dict[int, list[int]] = {}
        for place, uid in enumerate(uids):
            steps.setdefault(best[uid][0] if uid in best else 0, []).append(place)
        return [
            Part(tuple(places), tuple(dict.fromkeys(best[uids[place]][1] for place in places)) if step else (), step)
            for step, places in sorted(steps.items())
        ]

    def forget(self, uids: Sequence[str]) -> None:
        """Removes the checkpoints of this very pack: its members are to start anew."""
        for end in ("", _RANKED):
            shutil.rmtree(self._folder / (key(uids) + end), ignore_errors=True)


def read(path: Path, *keys: ContentKey) -> dict[str, Any] | None:
    """The content of a checkpoint, on the CPU; None where it has gone, or was made with none of these ``keys``."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever damage makes of it
        said = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{path} cannot be read ({said}): its trials start anew", file=sys.stderr, flush=True)
        return None
    same = isinstance(content, dict) and content.get("setting") in [dict(own) for own in keys]
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


def _newest(folder: Path, limit: int | None = None) -> Path | None:
    """The newest file of a pack that is whole, up to a step: every byte is checked."""
    paths = [path for path in folder.glob("step-*.pt") if limit is None or _step(path) <= limit]
    return next(filter(_whole, sorted(paths, key=_step, reverse=True)), None)


def _whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            whole = file.testzip() is None
    except Exception as error:  # noqa: BLE001 - whatever a damaged archive makes of zipfile
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # unreadable here and now; EINVAL: wrong offsets
            return False
        whole = False
    if not whole:
        with suppress(OSError):
            path.unlink()
            said = "damaged, and removed: its trials go on from the checkpoint before, or start anew"
            print(f"{path} is {said}", file=sys.stderr, flush=True)
    return whole


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _members(folder: Path) -> list[str]:
    try:
        return (folder / _MEMBERS).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def _save(content: Mapping[str, Any], path: Path) -> None:
    import torch

    torch.save(dict(content), path)


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file that appears under its name whole and durably, or not at all."""
    with replacing(path) as draft:
        write(draft)


def _prune(folder: Path, step: int) -> None:
    """Keeps the file of this step and the one before it. Later ones were unreadable, or this step would not be new."""
    paths = sorted(folder.glob("step-*.pt"), key=_step, reverse=True)
    keep = [path for path in paths if _step(path) <= step][:_KEPT]
    torn = folder.glob(".step-*")
    for path in {*paths, *torn}.difference(keep):
        with suppress(OSError):
            path.unlink()


__all__ = ["EVERY", "FOLDER", "Checkpoints", "ContentKey", "Left", "Part", "clean", "key", "read"]
