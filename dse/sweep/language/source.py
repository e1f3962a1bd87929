"""YAML reader that keeps the line of every key and list item, for error messages.

YAML 1.2: ``1e-3`` is a number, ``off``, ``no`` and ``none`` are words, ``null`` and ``~`` are nothing. Keys are text,
numbers are finite, a key may stand once in its mapping, and nothing beyond plain data (tags, dates) is understood.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from dse.errors import UserError

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the root of the file to a value, such as ("grid", "G.rounding", 1)."""

_BYTES, _VALUES, _DEPTH, _INTEGER = 250_000, 50_000, 20, 2**63
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class YamlSource:
    """``data``: dict, list, str, int, float, bool, None. ``lines``: the line (from 1) of every key and list item."""

    path: Path
    text: str
    data: Any
    lines: Mapping[KeyPath, int]

    def line(self, place: KeyPath) -> int:
        """The line of ``place``, or of the nearest enclosing value that exists."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def error(self, place: KeyPath, message: object) -> UserError:
        """``file:line: message`` as one line."""
        return _error(self.path, self.line(place), message)


@dataclass(frozen=True, eq=False)
class Location:
    """A place in one of a sweep's files, for error messages. ``location / key`` is a place inside of it."""

    source: YamlSource
    place: KeyPath = ()

    def __truediv__(self, key: str | int) -> Location:
        return Location(self.source, (*self.place, key))

    @property
    def line(self) -> int:
        return self.source.line(self.place)

    def error(self, message: object) -> UserError:
        """``file:line: message`` as one line."""
        return self.source.error(self.place, message)


def read_source(path: Path) -> YamlSource:
    """Reads and parses a file. Raises UserError (one line, with file:line) for anything that is not plain YAML."""
    text = _read(path)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _error(path, mark.line + 1 if mark else 1, f"not valid YAML: {_problem(error)}") from None
    except ReaderError as error:
        raise _error(path, text.count("\n", 0, error.position) + 1, "not valid YAML: a control character") from None
    except YAMLError as error:
        raise _error(path, 1, f"not valid YAML: {error}") from None
    except RecursionError:
        raise _error(path, 1, "nested too deeply") from None
    except (ValueError, AttributeError, IndexError, AssertionError) as error:  # slips of the parser on odd input
        raise _error(path, 1, f"not valid YAML: {error}") from None
    if root is None:
        raise UserError(f"{path}: the file is empty; a sweep needs at least tasks and recipes")
    builder = _Builder(path)
    data = builder.build(root, ())
    builder.lines[()] = root.start_mark.line + 1
    return YamlSource(path, text, data, builder.lines)


class _Builder:
    """Turns a node graph into plain data, noting the line of every place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {}

    def build(self, node: Node, place: KeyPath) -> Any:
        line = node.start_mark.line + 1
        if len(place) > _DEPTH:
            raise _error(self.path, line, "nested too deeply")
        if len(self.lines) > _VALUES:
            raise _error(self.path, line, f"more than {_VALUES:,} values")
        tag = str(node.tag)
        if isinstance(node, MappingNode) and tag == _TAG + "map":
            return self._mapping(node, place)
        if isinstance(node, SequenceNode) and tag == _TAG + "seq":
            return [self._item(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return _scalar(self.path, line, tag.removeprefix(_TAG), node.value)
        raise _error(self.path, line, f"the YAML tag {tag} has no meaning here")

    def _item(self, node: Node, place: KeyPath) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.build(node, place)

    def _mapping(self, node: MappingNode, place: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, ScalarNode) and (
                str(key.tag) == _TAG + "merge" or (key.value, key.style) == ("<<", None)
            ):
                merged |= self._merge(value, data, place, line)
                continue
            if not isinstance(key, ScalarNode) or str(key.tag) != _TAG + "str":
                raise _error(self.path, line, f"a key must be text, not {_shown(key)}")
            name = str(key.value)
            if name in merged:  # what is written out counts, wherever the merge stands
                self._forget((*place, name))
                merged.discard(name)
            elif name in data:
                first = self.lines[*place, name]
                raise _error(self.path, line, f"duplicate key {name!r} (first on line {first})")
            self.lines[*place, name] = line
            data[name] = self.build(value, (*place, name))
        return data

    def _merge(self, node: Node, data: dict[str, Any], place: KeyPath, line: int) -> set[str]:
        """Adds the keys of ``<<: *anchor`` or ``<<: [*one, *other]`` that are not there yet; gives their names."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        added: set[str] = set()
        for number, own in enumerate(nodes):
            if not isinstance(own, MappingNode):
                raise _error(self.path, line, "'<<' merges a mapping, or a list of mappings: <<: *anchor")
            inside = (*place, f"<<{len(self.lines)} {number}")
            for name, value in self.build(own, inside).items():
                if name not in data:
                    data[name] = value
                    added.add(name)
                    self._move((*inside, name), (*place, name), value)
        return added

    def _move(self, old: KeyPath, new: KeyPath, value: Any) -> None:
        self.lines[new] = self.lines[old]
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            self._move((*old, key), (*new, key), inner)

    def _forget(self, place: KeyPath) -> None:
        for known in [known for known in self.lines if known[: len(place)] == place]:
            del self.lines[known]


def _scalar(path: Path, line: int, tag: str, text: str) -> str | int | float | bool | None:
    try:
        match tag:
            case "null":
                return None
            case "bool":
                return text.lower() in ("true", "yes", "on", "y")
            case "int":
                whole = int(text.replace("_", ""), 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
                if abs(whole) < _INTEGER:
                    return whole
                raise ValueError
            case "float":
                number = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
                if math.isfinite(number):
                    return number
                raise ValueError
            case "str" | "timestamp" | "value" | "merge":
                return text
    except ValueError:
        raise _error(path, line, f"{_short(text)} is not a finite number of usable size") from None
    raise _error(path, line, f"the YAML tag {tag} has no meaning here")


def _near(path: Path) -> str:
    """The tail of an error message that names the sweep in the same folder whose name is nearest, if one is near."""
    names = {p.stem: str(p) for p in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
    short = [name for name in names if len(name) <= 2 >= len(path.stem)]  # any two of them are one slip apart
    found = get_close_matches(path.stem, names, n=1, cutoff=0.6) or get_close_matches(path.stem, short, 1, cutoff=0)
    return f"; did you mean {names[found[0]]!r}?" if found else ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_near(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > _BYTES:
        raise UserError(f"{path}: larger than {_BYTES:,} bytes, so not a sweep")
    try:
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _error(path, raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None


def _problem(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if "alias" in problem or "alias" in str(error.context):
        return f"{problem}; a path that begins with * needs quotes, as in '*.block'"
    if "'\\t'" in problem:
        return f"{problem}; indent with spaces, not tabs"
    return f"{error.context}, {problem}" if error.context and problem.startswith("but") else problem


def _shown(node: Node) -> str:
    return _short(node.value) if isinstance(node, ScalarNode) else "a list or a mapping"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _error(path: Path, line: int, message: object) -> UserError:
    return UserError(f"{path}:{line}: {' '.join(str(message).split())}")
