"""Sweeps made in Python: a sweep file is written and loaded, so that ``dse run`` and ``dse status`` take it too."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RepresenterError

from dse.errors import UserError
from dse.files import replacing
from dse.sweep.cells.expansion import load_sweep
from dse.sweep.cells.sweep import Sweep

MARK = "# Written by dse.make_sweep, which replaces this file when it is called again.\n"


def make_sweep(path: Path | str, **keys: Any) -> Sweep:
    """Writes a sweep file and loads it; ``keys`` are those of a sweep file (docs/sweeps.md) as plain Python data.

    A file that it has written before is replaced. Raises UserError for any other file that exists, for one that cannot
    be written, and for keys that are not understood: the message then names the line of the file, which is kept.

    >>> make_sweep("mine.yaml", tasks=["lm"], recipes=["mxfp4", "nvfp4"], seeds=3)  # doctest: +SKIP
    """
    path = Path(path)
    text = sweep_text(keys)
    try:
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise UserError(f"{path}: make_sweep has not written this file, and does not replace it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as draft:
            draft.write_text(MARK + text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    return load_sweep(path)


def sweep_text(keys: Mapping[str, Any]) -> str:
    """The text of a sweep file with these keys, in their order. Raises UserError for what is not plain data.

    >>> print(sweep_text({"tasks": ["lm"], "grid": {"*.block": [16, 32]}}), end="")
    tasks: [lm]
    grid:
      '*.block': [16, 32]
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    out = StringIO()
    try:
        yaml.dump(dict(keys), out)
    except RepresenterError as error:
        raise UserError(f"a sweep file holds plain data only: {error}") from None
    return out.getvalue()


__all__ = ["make_sweep", "sweep_text"]
