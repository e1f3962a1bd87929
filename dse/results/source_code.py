"""Digest of a class's source code: its file and what the file imports from its own folder, without comments."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_DIGITS = 12


@cache
def code_digest(cls: type) -> str:
    """12 hex digits of the code that defines a class; empty where there is no source text that Python can read.

    The code is its module's file and every file that this one imports, directly or not, from the same folder or below.
    Comments, docstrings, empty lines and spaces at ends of lines do not count. Kept for the life of the class: a file
    that is edited meanwhile does not change what has been imported.
    """
    module = sys.modules.get(cls.__module__)
    path = Path(found).resolve() if (found := getattr(module, "__file__", None)) else None
    try:
        if path is None:
            return _digest([inspect.getsource(cls)])
        files = sorted(_files(path, _root(path, cls.__module__)))
        return _digest([file.read_text(encoding="utf-8") for file in files])
    except (OSError, TypeError, ValueError, SyntaxError, tokenize.TokenError):
        return ""


def statements(source: str) -> str:
    """A source text without comments, docstrings, empty lines and spaces at ends of lines.

    >>> statements("x = 1  # one\\n\\n\\ndef f():\\n    '''Adds.'''\\n    return x\\n")
    'x = 1\\ndef f():\\n    return x'
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for string in _docstrings(ast.parse(source)):
        first, last = string.lineno - 1, (string.end_lineno or string.lineno) - 1
        if not lines[first][: string.col_offset].strip() and not lines[last][string.end_col_offset :].strip():
            lines[first : last + 1] = [""] * (last + 1 - first)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """The statements that are a string and nothing else: docstrings of modules, classes, functions and values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(map(statements, texts)).encode()).hexdigest()[:_DIGITS]


def _root(path: Path, module: str) -> Path:
    """The folder from which a file's imports of its neighbors count: that of its package, or the file's own."""
    parts = module.split(".")
    stem = path.parent if path.name == "__init__.py" else path.with_suffix("")
    return stem.parents[len(parts) - 1] if stem.parts[-len(parts) :] == tuple(parts) else path.parent


def _files(path: Path, root: Path) -> set[Path]:
    """A file and all that it imports from its folder or below."""
    found, waiting = set[Path](), [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        package = file.parent.relative_to(root).parts
        for parts in _imported(ast.parse(file.read_text(encoding="utf-8")), package):
            place = root.joinpath(*parts)
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.is_file() and candidate.is_relative_to(path.parent):
                    waiting.append(candidate)
    return found


def _imported(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The modules that a file of ``package`` may import, as paths from the root."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from [base] * bool(base)
            yield from ((*base, alias.name) for alias in node.names)


__all__ = ["code_digest", "statements"]
