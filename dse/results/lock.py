"""Rights in a results folder, each held by one process at a time.

The kernel's ``flock`` is the lock, so a process that is killed lets go of it by dying; the text inside the file only
says who it is. (``filelock`` before 4 empties the file of the holder while it tries, so it is not used.)
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from dse.errors import UserError
from dse.files import unwritable

NAME = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class InUse(UserError):
    """Somebody else has the right."""


@contextmanager
def folder_lock(folder: Path, name: str = NAME) -> Iterator[None]:
    """Holds ``folder/name``; makes the folder when it is missing.

    Raises UserError when the folder cannot be written, InUse with the process and host that hold it.
    """
    fd, mine = _locked(folder, name, wait=False)
    try:
        if not mine:
            raise InUse(f"results folder {folder} is in use by {holder(fd)}; let it finish, or stop it")
        os.ftruncate(fd, 0)
        os.pwrite(fd, signature().encode(), 0)
        yield
        with suppress(OSError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


@contextmanager
def turn(folder: Path, name: str) -> Iterator[None]:
    """Waits for ``folder/name`` and holds it: for the moments in which several files must fit together."""
    fd, _ = _locked(folder, name, wait=True)
    try:
        yield
    finally:
        os.close(fd)


def is_at(fd: int, path: Path) -> bool:
    """Whether an open file is still the one at a path: neither deleted nor moved nor replaced."""
    try:
        there, own = path.stat(), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def try_lock(fd: int, wait: bool = False) -> bool:
    """Takes the exclusive lock of an open file until it is closed; False when somebody else has it."""
    import fcntl  # POSIX only; the rest of this module may be imported anywhere

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise UserError("the file system of the results folder has no file locks; choose another folder") from None
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def signature() -> str:
    """Who this process is, as one line of JSON."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def named(text: str | bytes) -> str:
    """The process that signed so."""
    try:
        who = json.loads(text)
        return f"process {who['pid']} on {who['host']} (since {who['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def holder(fd: int) -> str:
    """Who holds the lock of an open file; it may be about to write its name."""
    try:
        return named(os.pread(fd, 4096, 0))
    except OSError:
        return named("")


def _locked(folder: Path, name: str, wait: bool) -> tuple[int, bool]:
    """The open file, and whether its lock is ours; one that was deleted meanwhile is none: others lock another one."""
    while True:
        fd = _open(folder, name)
        mine = try_lock(fd, wait)
        if not mine or is_at(fd, folder / name):
            return fd, mine
        os.close(fd)


def _open(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from None


__all__ = ["InUse", "folder_lock", "holder", "is_at", "named", "signature", "try_lock", "turn"]
