"""The right to write into a results folder, held by one process at a time.

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

NAME = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Holds ``folder/.lock``; makes the folder when it is missing.

    Raises UserError when the folder cannot be written, or names the process and host that hold it.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        if not try_lock(fd):
            raise UserError(f"results folder {folder} is in use by {_holder(fd)}; let it finish, or stop it")
        os.ftruncate(fd, 0)
        os.pwrite(fd, _self().encode(), 0)
        yield
        with suppress(OSError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def try_lock(fd: int) -> bool:
    """Takes the exclusive lock of an open file until it is closed; False when somebody else has it."""
    import fcntl  # POSIX only; the rest of this module may be imported anywhere

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise UserError("the file system of the results folder has no file locks; choose another folder") from None
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unwritable(folder: Path, error: OSError) -> UserError:
    """The one line about a results folder that refuses to be written."""
    return UserError(f"results folder {folder} is not writable: {error.strerror or error}")


def _self() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _holder(fd: int) -> str:
    try:
        who = json.loads(os.pread(fd, 4096, 0))
        return f"process {who['pid']} on {who['host']} (since {who['since']})"
    except (ValueError, KeyError, TypeError, OSError):  # it has the lock, and is about to write its name
        return "another process"


__all__ = ["folder_lock", "try_lock", "unwritable"]
