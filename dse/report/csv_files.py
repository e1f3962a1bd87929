"""Tables as files: CSV that is safe to open in a spreadsheet (text that looks like a formula is escaped), LaTeX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\Z", re.ASCII | re.IGNORECASE)

_SPECIAL = re.compile(r"[\\~^] ?|[&%$#_{}]")
_LATEX = {char: f"\\{char}" for char in "&%$#_{}"}
_LATEX |= {"\\": "\\textbackslash ", "~": "\\textasciitilde ", "^": "\\textasciicircum "}


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
    """Writes a table for LaTeX (packages booktabs, longtable): text escaped, numbers to four digits.

    The text of pandas' ``to_latex(longtable=True)``, whose styler takes a second for a thousand rows.
    """
    columns = []
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            columns.append([f"{value:.4g}" if value == value else "" for value in frame[name]])
        else:
            known = frame[name].notna()
            texts = frame[name].astype(str)
            columns.append([escape_latex(text) if there else "NaN" for text, there in zip(texts, known, strict=True)])
    head = " & ".join(escape_latex(str(name)) for name in frame.columns) + " \\\\"
    count = len(columns)
    lines = [f"\\begin{{longtable}}{{{'l' * count}}}"]
    lines += ["\\toprule", head, "\\midrule", "\\endfirsthead", "\\toprule", head, "\\midrule", "\\endhead"]
    lines += ["\\midrule", f"\\multicolumn{{{count}}}{{r}}{{Continued on next page}} \\\\", "\\midrule", "\\endfoot"]
    lines += ["\\bottomrule", "\\endlastfoot"]
    lines += [" & ".join(row) + " \\\\" for row in zip(*columns, strict=True)]
    path.write_text("\n".join([*lines, "\\end{longtable}", ""]), encoding="utf-8")


def escape_latex(text: str) -> str:
    r"""Text as LaTeX shows it.

    >>> print(escape_latex("G_{x} 5 %"))
    G\_\{x\} 5 \%
    """
    return _SPECIAL.sub(lambda found: _LATEX[found[0][0]] + "\\space " * found[0].endswith(" "), text)


__all__ = ["escape_formula", "escape_latex", "write_csv", "write_latex"]
