"""Who runs which trial: drivers that share a results folder claim trials before they begin them.

Each driver has a file of its own in ``claims/``, locked while it lives (``flock``): killed in any way, it lets go of
its claims by dying. Deleted or changed by somebody else, it is written anew (``keep``). A line ``+uid`` claims a trial,
``-uid`` gives it back. Whoever reads or writes claims has the
turn (one more lock, held for moments), so that no two drivers can claim the same trial. A claim of a trial with a
result means nothing any more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dse.errors import UserError
from dse.files import unwritable
from dse.results.lock import is_at, named, signature, try_lock, turn

FOLDER = "claims"
SUFFIX = ".claims"
_TURN = ".turn"


@dataclass
class _Other:
    """Another driver's file, as far as it has been read."""

    who: str = ""
    size: int = 0
    uids: set[str] = field(default_factory=set)

    def read(self, fd: int) -> None:
        """Reads what has been added; a line that is still without its end is left for the next time."""
        size = os.fstat(fd).st_size
        if size < self.size:  # somebody has cut it
            self.size, self.uids = 0, set()
        text = os.pread(fd, size - self.size, self.size)
        text = text[: text.rfind(b"\n") + 1]
        self.size += len(text)
        for line in text.decode(errors="replace").splitlines():
            if line.startswith("+"):
                self.uids.add(line[1:])
            elif line.startswith("-"):
                self.uids.discard(line[1:])
            else:
                self.who = named(line)


class Claims:
    """The claims of this process, and a view of the others'. Make it, use it inside ``turn``, ``close`` it.

    Raises UserError when the folder cannot be written or has no file locks.
    """

    def __init__(self, results: Path) -> None:
        self._results, self._folder = results, results / FOLDER
        self._others: dict[str, _Other] = {}
        self._fd: int | None = None
        self._path = self._folder
        self._own: dict[str, None] = {}  # in their order
        self._size = 0
        self.renewed = False
        """Whether the claims were deleted under this driver: others may have claimed the same trials meanwhile."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Nobody else claims, gives back or comes and goes meanwhile."""
        with turn(self._folder, _TURN):
            if not self._intact():
                self._open()
            yield

    def keep(self) -> None:
        """Claims anew what this driver has claimed, where its file is not as it was left; cheap where it is.

        A folder that cannot be written just now is left to the next one who needs it.
        """
        if self._fd is not None and not self._intact():
            with suppress(OSError, UserError), self.turn():
                pass

    def _intact(self) -> bool:
        return self._fd is not None and is_at(self._fd, self._path) and os.fstat(self._fd).st_size == self._size

    def others(self) -> Mapping[str, str]:
        """uid -> who runs it, of every driver that lives. Ask before you read results, inside the same ``turn``:
        whoever is gone by now has written its results before."""
        before, self._others = self._others, {}
        found: dict[str, str] = {}
        for path in self._folder.glob("*" + SUFFIX):
            if path != self._path and (other := _look(path, before.get(path.name) or _Other())):
                self._others[path.name] = other
                found |= dict.fromkeys(other.uids, other.who)
        return found

    def add(self, uids: Iterable[str]) -> None:
        """Claims trials."""
        new = list(uids)
        self._own |= dict.fromkeys(new)
        self._write("+", new)

    def give_back(self, uids: Iterable[str]) -> None:
        """Gives trials back that were not run."""
        gone = list(uids)
        for uid in gone:
            self._own.pop(uid, None)
        self._write("-", gone)

    def close(self) -> None:
        """Gives everything back."""
        if self._fd is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = None
            self._own.clear()

    def _open(self) -> None:
        """Begins a file, with whatever is claimed; closes the one before."""
        if self._fd is not None:
            self.renewed = True
            if is_at(self._fd, self._path):
                with suppress(OSError):
                    self._path.unlink()
            os.close(self._fd)
            self._fd = None
        self._path = self._folder / f"{time.time_ns():x}-{os.getpid()}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, 0o644)
            try_lock(fd, wait=True)  # somebody may just be looking whether it is locked
            self._fd = fd
            self._size = os.write(fd, f"{signature()}\n".encode())
        except OSError as error:
            raise unwritable(self._results, error) from None
        self._write("+", self._own)

    def _write(self, sign: str, uids: Iterable[str]) -> None:
        assert self._fd is not None
        data = "".join(f"{sign}{uid}\n" for uid in uids).encode()
        try:
            self._size += (written := os.write(self._fd, data))
            if written != len(data):
                raise OSError("disk full")
        except OSError as error:
            raise unwritable(self._results, error) from None


def _look(path: Path, other: _Other) -> _Other | None:
    """Reads on in a driver's file; None when it is dead. Only in one's turn: a dead driver's file is removed."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it has just gone
        return None
    try:
        if not try_lock(fd):
            other.read(fd)
            return other
        with suppress(OSError):
            path.unlink()
        return None
    finally:
        os.close(fd)


def at_work(results: Path) -> list[tuple[str, set[str]]]:
    """The drivers that live, each with the uids it has claimed; for people, from outside. Nothing is changed."""
    found = []
    for path in sorted((results / FOLDER).glob("*" + SUFFIX)):
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not try_lock(fd):
                    other = _Other()
                    other.read(fd)
                    found.append((other.who, other.uids))
            finally:
                os.close(fd)
    return found
