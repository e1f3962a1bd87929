"""Golden of documented imports: every module and name that pages and docstrings tell users to import or to run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.makers.common import FOLDER, ROOT

_FROM = re.compile(
    r"^(?:>>> |\.\.\. )?\s*from ((?:dse|tasks)(?:\.\w+)*) import \(?([\w, \n]+?)\)?(?:  #.*)?$", re.MULTILINE
)
_IMPORT = re.compile(r"^(?:>>> )?\s*import ((?:dse|tasks)(?:\.\w+)*)$", re.MULTILINE)
_RUN = re.compile(r"python -m ((?:dse|tasks)(?:\.\w+)*)")

_NAMED = re.compile(r"`((?:dse|tasks)(?:\.\w+)*)\.(?!py`)(\w+)[`(]")


def imports() -> dict[str, Any]:
    """``module name`` -> whether it can be imported; ``-m module`` -> whether it can be run.

    What the golden file has once named stays in it, also where no page names it any more: users' files do.
    """
    path = FOLDER / "imports.json"
    before = list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []
    return {name: _outcome(*name.split(" ")) for name in sorted({*before, *_documented()})}


def _documented() -> Iterator[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for text in texts + list(_docstrings()):
        for module, names in _FROM.findall(text):
            yield from (f"{module} {name.split(' as ')[0].strip()}" for name in names.split(",") if name.strip())
        yield from (f"{module} *" for module in _IMPORT.findall(text))
        yield from (f"-m {module}" for module in _RUN.findall(text))
    for text in texts:
        for module, name in _NAMED.findall(text):
            yield f"{module}.{name} *" if _is_module(f"{module}.{name}") else f"{module} {name}"


def _docstrings() -> Iterator[str]:
    """Of modules, classes and functions."""
    for folder in ("dse", "tasks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    yield ast.get_docstring(node) or ""


def _outcome(module: str, name: str) -> str:
    if module == "-m":
        return "can be run" if _runs(name) else "cannot be run"
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return "can be imported" if name == "*" or hasattr(found, name) else f"{module} has no {name}"


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _runs(module: str) -> bool:
    """Whether ``python -m`` has something to do there: a file that asks for its name, or a package with a main file."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if spec is None or spec.origin is None:
        return False
    return spec.name.endswith(".__main__") or '__name__ == "__main__"' in Path(spec.origin).read_text(encoding="utf-8")
