"""Files that a crash leaves whole: a draft beside the file, made durable, then renamed. And the errors of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dse.errors import UserError


@contextmanager
def replacing(path: Path, draft: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Yields the path of a draft to write; afterwards the draft replaces ``path`` in one step.

    Whoever reads sees the old file or the new one, whole. With ``durable`` that holds after a power failure too: the
    draft is written through to the disk before it is renamed, and its folder afterwards. A draft that an exception
    leaves is deleted, and ``path`` is as it was.
    """
    draft = draft or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        if durable:
            sync_file(draft)
        os.replace(draft, path)  # noqa: PTH105 - the step that tests interrupt
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Writes the content of a closed file through to the disk."""
    _sync(path, os.O_RDWR)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: a new or replaced file survives a power failure only after this."""
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unwritable(folder: Path, error: OSError) -> UserError:
    """The one-line error about a results folder that cannot be written."""
    return UserError(f"results folder {folder} is not writable: {error.strerror or error}")


def unreadable(path: Path, error: OSError) -> UserError:
    """The one-line error about a file that cannot be read."""
    return UserError(f"{path} cannot be read: {error.strerror or error}")


__all__ = ["replacing", "sync_file", "sync_folder", "unreadable", "unwritable"]
