"""Output paths of a report: `NAME.html` and `NAME/`, or with a hash where another sweep of that name uses these."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dse.results.identity import path_hash, resolved_path
from dse.text import slug

if TYPE_CHECKING:
    from dse.sweep import Sweep

_MARK = re.compile(r'<meta name="sweep" content="([0-9a-f]{16}) ([0-9a-f]{16})">')
_HEAD = 4096  # characters of a page within which its mark is


def output_name(sweep: Sweep, folder: Path) -> str:
    """File name of a sweep's page, without its ending. Only a page of the same sweep file, or text, is replaced."""
    name = page_name(sweep.name)
    return name if _is_free(folder / f"{name}.html", sweep) else f"{name}-{path_hash(sweep)}"


def page_name(name: str) -> str:
    """A sweep's name as a file name.

    >>> page_name("my sweep/α <1>")
    'my-sweep-α-1'
    """
    return slug(re.sub(r"[^\w.]+", "-", name).strip("-.") or "sweep")


def sweep_hashes(sweep: Sweep, folder: Path) -> str:
    """Hashes of a sweep's path (of joined sweeps, their paths) and text, by which a page is recognized as its own.

    The path is that from the page's ``folder``, so that another checkout writes the same page.
    """
    return f"{_hash(_joined(sweep, lambda path: _from(path, folder)))} {_hash(sweep.text)}"


def _is_free(path: Path, sweep: Sweep) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _MARK.search(file.read(_HEAD))
    except OSError:
        return True
    absolute = _hash(_joined(sweep, resolved_path))  # of a page from before paths were relative
    return found is None or bool({*found.groups()} & {absolute, *sweep_hashes(sweep, path.parent).split()})


def _joined(sweep: Sweep, told: Callable[[Path], str]) -> str:
    return "\n".join(told(part.path) for part in sweep.parts or (sweep,))


def _from(path: Path, folder: Path) -> str:
    """The way from ``folder`` to ``path``; the whole path where there is none, as from one Windows drive to another."""
    try:
        return Path(os.path.relpath(resolved_path(path), resolved_path(folder))).as_posix()
    except ValueError:
        return resolved_path(path)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


__all__ = ["output_name", "page_name", "sweep_hashes"]
