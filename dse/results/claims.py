"""Claims of trials: drivers that share a results folder claim trials before they run them.

Each driver has a file of its own in ``claims/``, which it locks while it runs (``flock``): however it is killed, its
claims end with it. A line ``+uid`` claims a trial, ``-uid`` releases it. Whoever reads or writes claims holds one more
lock (``Claims.lock``), for moments, so that no two drivers claim the same trial. A claim of a trial that has a result
does not count. A file that was deleted or changed by somebody else is written again (``Claims.restore``).
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
from dse.results.lock import describe_process, exclusive_lock, is_same_file, process_line, try_lock

FOLDER = "claims"
SUFFIX = ".claims"
_LOCK = ".turn"


@dataclass
class _ClaimsFile:
    """The claims file of another driver, as far as it has been read: ``process``, in words, and the ``uids``."""

    process: str = ""
    size: int = 0
    uids: set[str] = field(default_factory=set)

    def read(self, fd: int) -> None:
        """Reads what has been added; a line without its end is left for the next time."""
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
                self.process = describe_process(line)


class Claims:
    """The claims of this driver, and those of the others. All methods but ``restore`` are called inside ``lock``.

    Raises UserError when the folder cannot be written or has no file locks.
    """

    def __init__(self, results: Path) -> None:
        self._results, self._folder = results, results / FOLDER
        self._others: dict[str, _ClaimsFile] = {}
        self._fd: int | None = None
        self._path = self._folder
        self._own: dict[str, None] = {}  # in their order
        self._size = 0
        self.restored = False
        """Whether the claims file was deleted or changed: other drivers may have claimed the same trials meanwhile."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Context in which no other driver reads or changes claims."""
        with exclusive_lock(self._folder, _LOCK):
            if not self._is_intact():
                self._open()
            yield

    def restore(self) -> None:
        """Writes the claims file again where it is not as it was left; called often, because it costs little.

        A folder that cannot be written at the moment is left to the next call of ``lock``.
        """
        if self._fd is not None and not self._is_intact():
            with suppress(OSError, UserError), self.lock():
                pass

    def _is_intact(self) -> bool:
        return self._fd is not None and is_same_file(self._fd, self._path) and os.fstat(self._fd).st_size == self._size

    def claimed_by_others(self) -> Mapping[str, str]:
        """uid -> process, of all drivers that run. Call it before reading results, inside the same ``lock``: a driver
        that has ended by now has written its results before."""
        before, self._others = self._others, {}
        found: dict[str, str] = {}
        for path in self._folder.glob("*" + SUFFIX):
            if path != self._path and (other := _read(path, before.get(path.name) or _ClaimsFile())):
                self._others[path.name] = other
                found |= dict.fromkeys(other.uids, other.process)
        return found

    def claim(self, uids: Iterable[str]) -> None:
        """Claims trials."""
        new = list(uids)
        self._own |= dict.fromkeys(new)
        self._write("+", new)

    def release(self, uids: Iterable[str]) -> None:
        """Releases trials that were not run."""
        released = list(uids)
        for uid in released:
            self._own.pop(uid, None)
        self._write("-", released)

    def close(self) -> None:
        """Releases everything."""
        if self._fd is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = None
            self._own.clear()

    def _open(self) -> None:
        """Begins a new file with all that is claimed; closes the one before."""
        if self._fd is not None:
            self.restored = True
            if is_same_file(self._fd, self._path):
                with suppress(OSError):
                    self._path.unlink()
            os.close(self._fd)
            self._fd = None
        self._path = self._folder / f"{time.time_ns():x}-{os.getpid()}{SUFFIX}"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, 0o644)
            try_lock(fd, wait=True)  # another process may just be trying whether it is locked
            self._fd = fd
            self._size = os.write(fd, f"{process_line()}\n".encode())
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


def _read(path: Path, other: _ClaimsFile) -> _ClaimsFile | None:
    """Reads on in the file of a driver; None when the driver has ended, and then removes it. Only inside of a lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # it has just been removed
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


def running_drivers(results: Path) -> list[tuple[str, set[str]]]:
    """The drivers that run, in words, each with the uids that it has claimed. Changes nothing."""
    found = []
    for path in sorted((results / FOLDER).glob("*" + SUFFIX)):
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not try_lock(fd):
                    other = _ClaimsFile()
                    other.read(fd)
                    found.append((other.process, other.uids))
            finally:
                os.close(fd)
    return found


__all__ = ["FOLDER", "SUFFIX", "Claims", "running_drivers"]
