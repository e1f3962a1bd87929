"""Writer of the shard of one process, which moves to another file or folder where the current one fails.

Between two results the results folder may be deleted or moved, the shard damaged, the disk full. What this process has
computed is put into a shard that can be found, or the run ends and says where it is.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dse.errors import UserError
from dse.files import sync_folder, unwritable
from dse.results.checksum import seal
from dse.results.lock import is_same_file, try_lock
from dse.results.shards import SUFFIX

_TRIES = 5
"""How often the folder may vanish while one pack is stored."""


class ShardWriter:
    """The shard of this process, made when the first line is written; ``notes``: what has happened to it, in words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._path = folder
        self._pid = 0
        self._size, self._count = 0, 0  # of the open shard
        self._rest, self._rests = b"", 0  # lines of a shard that has gone, and how many
        self.notes: list[str] = []

    @property
    def path(self) -> Path | None:
        """The shard that is open for writing."""
        return None if self._fd is None else self._path

    def append(self, *lines: str) -> None:
        """Puts lines (objects of JSON) on the disk, in one write: when this returns, a crash cannot take them away.

        Raises UserError when the folder cannot be written or the disk is full; the file is then as it was before, or,
        where even that fails, ends in a torn line and is left alone from then on. The lines are in another folder then,
        which the message names.
        """
        data = "".join(f"{seal(line)}\n" for line in lines).encode()
        try:
            self._store(data, len(lines))
        except (OSError, UserError) as error:
            raise self._rescued(data, len(lines), error) from None

    def close(self) -> None:
        """Ends the shard, so that it can be compacted; the next line starts another one."""
        if self._fd is not None and self._pid == os.getpid():
            try:
                self._look_after()
                if self._rest:
                    self._store(b"", 0)
            except (OSError, UserError) as error:
                raise self._rescued(b"", 0, error) from None
            finally:
                self._end()
        self._fd = None

    def _store(self, data: bytes, count: int) -> None:
        for _ in range(_TRIES):
            self._look_after()
            if self._fd is None or self._pid != os.getpid():  # a forked child must not share its parent's file
                self._open(self._folder)
            again = self._rests
            self._write(self._rest + data, self._rests + count)
            self._rest, self._rests = b"", 0
            if again:
                self.notes[-1] += f" with the {again} results of this run"
            if self._fd is not None and is_same_file(self._fd, self._path):
                return
            data, count = b"", 0  # they are in the shard that has gone, as all others
        raise UserError(f"results folder {self._folder.parent} vanishes as often as it is made")

    def _write(self, data: bytes, count: int) -> None:
        assert self._fd is not None
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            self._end()
            raise UserError(f"a result could not be written to {self._path}: {error.strerror or error}") from None
        except BaseException:  # interrupted: nobody knows how much of it is there
            self._end()
            raise
        self._size += len(data)
        self._count += count

    def _look_after(self) -> None:
        """Ends an open shard that is not as it was left: another one is begun, with what that one held."""
        if self._fd is None or self._pid != os.getpid():
            return
        if not is_same_file(self._fd, self._path):
            with suppress(OSError):  # of a file system that is gone
                self._rest = os.pread(self._fd, self._size, 0)
            self._rest = self._rest[: self._rest.rfind(b"\n") + 1]
            self._rests = self._rest.count(b"\n")
            lost = self._count - self._rests
            note = f"{self._folder.parent} was deleted or moved while the sweep ran; it was made again"
        elif os.fstat(self._fd).st_size != self._size:
            lost = max(0, self._count - os.pread(self._fd, self._size, 0).count(b"\n"))
            note = f"{self._path} was changed by somebody else while the sweep ran; another one was begun"
        else:
            return
        self._end()
        said = f"; {lost} results of this run are lost, and run again with the same command" * (lost > 0)
        self.notes.append(note + said)

    def _rescued(self, data: bytes, count: int, error: OSError | UserError) -> UserError:
        """Writes what cannot be stored somewhere else; the error to raise, which says where."""
        text = str(error) if isinstance(error, UserError) else str(unwritable(self._folder.parent, error))
        data, count = self._rest + data, self._rests + count
        self._rest, self._rests = b"", 0
        if not count:
            return UserError(text)
        for make in _refuges(self._folder.parent):
            new = not make.exists()
            try:
                self._open(make)
                self._write(data, count)
            except (OSError, UserError):
                self._end()
                with suppress(OSError):  # what is left of it
                    if self._path.parent == make:
                        self._path.unlink()
                    if new:
                        make.rmdir()
            else:
                self._end()
                back = f"copy {self._path} into {self._folder}, and run the same command again"
                return UserError(f"{text}; the {count} results at hand are in {self._path}: {back}")
        self._end()
        return UserError(f"{text}; {count} results are lost, and run again with the same command")

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = folder / _name()
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
                if try_lock(fd) and os.fstat(fd).st_nlink:  # else a compaction took the empty file in between
                    break
                os.close(fd)
            sync_folder(folder)
        except OSError as error:
            raise unwritable(folder.parent, error) from None
        self._fd, self._path, self._pid, self._size, self._count = fd, path, os.getpid(), 0, 0

    def _end(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


def _refuges(results: Path) -> Iterator[Path]:
    """Other folders for results: beside the one that cannot be written, here, or a private one for temporary files."""
    results = results.absolute()
    yield results.with_name(f"{results.name}-rescued")
    with suppress(OSError):
        yield Path.cwd() / "results-rescued"
    with suppress(OSError):
        yield Path(tempfile.mkdtemp(prefix="dse-results-"))


def _name() -> str:
    host = re.sub(r"[^A-Za-z0-9.]+", "_", socket.gethostname())
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{host}-{os.getpid()}{SUFFIX}"


__all__ = ["ShardWriter"]
