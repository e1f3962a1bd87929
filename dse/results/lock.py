"""File locks in a results folder: one process at a time holds each.

The kernel's ``flock`` is the lock, so a process that is killed releases it; the text inside the file only names the
process. (``filelock`` before 4 empties the file of the holder while it tries, so it is not used.)
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
    """Another process holds the lock."""


@contextmanager
def folder_lock(folder: Path, name: str = NAME) -> Iterator[None]:
    """Context that holds ``folder/name`` without waiting for it; makes the folder when it is missing.

    Raises UserError when the folder cannot be written, InUse with the process and host that hold the lock.
    """
    fd, locked = _open_and_lock(folder, name, wait=False)
    try:
        if not locked:
            raise InUse(f"results folder {folder} is in use by {describe_holder(fd)}; let it finish, or stop it")
        os.ftruncate(fd, 0)
        os.pwrite(fd, process_line().encode(), 0)
        yield
        with suppress(OSError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


@contextmanager
def exclusive_lock(folder: Path, name: str) -> Iterator[None]:
    """Context that waits for ``folder/name`` and holds it: for moments in which several files must fit together."""
    fd, _ = _open_and_lock(folder, name, wait=True)
    try:
        yield
    finally:
        os.close(fd)


def is_same_file(fd: int, path: Path) -> bool:
    """Whether an open file is the one at a path: it was neither deleted nor moved nor replaced."""
    try:
        there, own = path.stat(), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def try_lock(fd: int, wait: bool = False) -> bool:
    """Locks an open file until it is closed; False when another process holds the lock."""
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


def process_line() -> str:
    """This process as one line of JSON: its number, its host, and the time."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def describe_process(line: str | bytes) -> str:
    """A ``process_line`` in words."""
    try:
        who = json.loads(line)
        return f"process {who['pid']} on {who['host']} (since {who['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def describe_holder(fd: int) -> str:
    """The process that holds the lock of an open file, in words; it may not have written its line yet."""
    try:
        return describe_process(os.pread(fd, 4096, 0))
    except OSError:
        return describe_process("")


def _open_and_lock(folder: Path, name: str, wait: bool) -> tuple[int, bool]:
    """An open file, and whether this process has its lock; a file that was deleted meanwhile is opened again."""
    while True:
        fd = _open(folder, name)
        locked = try_lock(fd, wait)
        if not locked or is_same_file(fd, folder / name):
            return fd, locked
        os.close(fd)


def _open(folder: Path, name: str) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from None


__all__ = ["InUse", "describe_process", "exclusive_lock", "folder_lock", "is_same_file", "process_line", "try_lock"]
