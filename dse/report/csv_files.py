"""Tables as files: CSV that is safe to open in a spreadsheet (text that looks like a formula is escaped), LaTeX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\Z", re.ASCII | re.IGNORECASE)


def escape_formula(value: Any) -> Any:
    """Text that begins with ``= + - @``, a tab or a carriage return, with an apostrophe before it; else the value.

    Numbers stay numbers, and so does text that is one. Source: OWASP, CSV injection.

    >>> harmless("=1+1"), harmless("-2"), harmless(-2.5), harmless("mxfp4")
    ("'=1+1", '-2', -2.5, 'mxfp4')
    """
    if not isinstance(value, str):
        return value
    if _FORMULA.match(value) and not _NUMBER.match(value):
        value = "'" + value
    return value.replace("\r\n", "\n").replace("\r", "\n")  # pandas quotes a line feed alone


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table as UTF-8; its text is ``escape_formula``, its numbers are in full."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype.kind not in "biufc":
            safe[name] = safe[name].astype(object).map(escape_formula)
    safe.columns = [escape_formula(name) for name in safe.columns]
    safe.to_csv(path, index=False, encoding="utf-8")


def write_latex(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table for LaTeX (packages booktabs, longtable): text escaped, numbers to four digits."""
    rounded = frame.copy()
    for name in rounded.columns:
        if rounded[name].dtype.kind == "f":
            rounded[name] = [f"{value:.4g}" if value == value else "" for value in rounded[name]]
        else:
            rounded[name] = rounded[name].astype(str)
    text = rounded.to_latex(index=False, escape=True, longtable=True, caption=None)
    path.write_text(text, encoding="utf-8")


__all__ = ["escape_formula", "write_csv", "write_latex"]
