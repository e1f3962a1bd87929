"""docs/environment.md names every environment variable that the source reads or sets, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|DISPLAY|PYTHONPATH|HOME|TMPDIR")
OTHERS = {"SC_PAGE_SIZE"}
"""What looks like a variable and is none."""
COMPOSED = {
    '_CACHE_DIR': {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"},
    'DSE_': {"DSE_SWEEP", "DSE_RESULTS", "DSE_EXIT_CODE", "DSE_TOTAL", "DSE_RAN", "DSE_OK", "DSE_DIVERGED"}
    | {"DSE_FAILED", "DSE_HALVED"},
}  # fmt: skip
"""Names that f-strings make: their constant part -> the names."""


def _mentioned(source: str) -> Iterator[str]:
    """The constants of a module that touches the environment which look like variables, composed ones included."""
    tree = ast.parse(source)
    touches = (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") for node in ast.walk(tree))
    if not any(touches):
        return
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}  # as in __all__
    own |= {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.Constant):
                    yield from COMPOSED.get(str(part.value), ())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            yield from {node.value} - OTHERS - own
        elif isinstance(node, ast.keyword) and node.arg and NAME.fullmatch(node.arg):
            yield node.arg


def _source() -> set[str]:
    files = [file for folder in ("dse", "tasks") for file in (ROOT / folder).rglob("*.py")]
    return {name for file in files for name in _mentioned(file.read_text(encoding="utf-8"))}


def _page() -> set[str]:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8").split("## Read by libraries")[0]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_page_names_every_variable_and_no_other() -> None:
    assert _page() == _source()


def test_what_a_command_after_a_run_finds_is_all_of_it() -> None:
    """The keys of the facts that ``--then`` is handed."""
    source = (ROOT / "dse" / "commands" / "sweeps.py").read_text(encoding="utf-8")
    (function,) = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and n.name == "_then")
    keys = [
        key.value
        for n in ast.walk(function)
        if isinstance(n, ast.Dict)
        for key in n.keys
        if isinstance(key, ast.Constant)
    ]
    assert {f"DSE_{str(key).upper()}" for key in keys} == COMPOSED["DSE_"]


def test_a_variable_that_is_read_is_found() -> None:
    found = set(_mentioned('import os\nHOME = "NEW_VARIABLE"\nos.environ.get(HOME)\nf"DSE_{HOME}"\nrun(SOME_OTHER=1)'))
    assert found == {"NEW_VARIABLE", "SOME_OTHER"} | COMPOSED["DSE_"]
    assert set(_mentioned('A = "NO_VARIABLE"')) == set()
