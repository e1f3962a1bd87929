"""Mutations of sweep files: of their text, and of the data in it."""

from __future__ import annotations

import copy
import json
import random
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML

CHARACTERS = "{}[]:,-#&*!|>'\"%@`?~ \t\n0123456789.eabé\u2028\ud7ff\x00"
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3.5, 1e-300, 1e300, 2**62, "", " ", "none", "off", "null", "yes", "*", "G", "not",
    "bf16", "mxfp4", "lm", "task", "recipe", "seed", "training.lr", "G.rounding", [], {}, [None], [[]], [{}], {"": 1},
    {"not": []}, {"not": {"not": 1}}, {"uniform": [0, 1]}, {"log": [1, 2], "levels": 2}, {"int": [1, 2]},
    {"stochastic": None}, {"hadamard": {"size": 3}}, "é", "x" * 200, ["lm", "lm"], {"recipe": "bf16"},
    {"base": "mxfp4"}, {"if": {"recipe": "mxfp4"}},
]  # fmt: skip


def mutant(text: str, generator: random.Random) -> str:
    """The text with one to three changes."""
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        text = generator.choice((_characters, _lines, _words, _tree, _tree))(text, generator)
    return text


def _characters(text: str, generator: random.Random) -> str:
    at = generator.randrange(len(text) + 1)
    until = min(len(text), at + generator.choice((0, 1, 1, 5)))
    return text[:at] + generator.choice(["", *CHARACTERS]) + text[until:]


def _lines(text: str, generator: random.Random) -> str:
    lines = text.split("\n")
    a, b = generator.randrange(len(lines)), generator.randrange(len(lines))
    match generator.randrange(5):
        case 0:
            del lines[a]
        case 1:
            lines.insert(b, lines[a])
        case 2:
            lines[a], lines[b] = lines[b], lines[a]
        case 3:
            lines[a] = " " * generator.randrange(5) + lines[a].lstrip(" ")
        case _:
            lines = lines[: a + 1]
    return "\n".join(lines)


def _words(text: str, generator: random.Random) -> str:
    """One word in the place of another, or misspelt."""
    words = text.replace("\n", " \n ").split(" ")
    at = generator.randrange(len(words))
    words[at] = generator.choice((generator.choice(words), words[at][::-1], words[at] + "x", words[at][1:]))
    return " ".join(words)


def _tree(text: str, generator: random.Random) -> str:
    """A value replaced, removed, renamed or moved. Text that is no YAML any more stays."""
    data = copy.deepcopy(_data(text))
    spots = list(_spots(data))
    if not spots:
        return text
    owner, key = generator.choice(spots)
    other, name = generator.choice(spots)
    match generator.randrange(5):
        case 0:
            owner[key] = copy.deepcopy(generator.choice(ODD))
        case 1:
            del owner[key]
        case 2:
            owner[key] = copy.deepcopy(other[name])
        case 3 if isinstance(owner, dict):
            owner[generator.choice([str(key) + "s", str(key)[:-1], *(str(k) for _, k in spots)])] = owner.pop(key)
        case _ if isinstance(owner, list):
            owner.insert(key, copy.deepcopy(other[name]))
        case _:
            owner[key] = [owner[key], copy.deepcopy(generator.choice(ODD))]
    return json.dumps(data, indent=1, ensure_ascii=False)


@lru_cache(256)
def _data(text: str) -> Any:
    """What is in a file's text, most of which are asked for again and again; None where that is no YAML."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
        json.dumps(data)
    except Exception:  # noqa: BLE001 - whatever the parser says to a mutant of a mutant
        return None
    return data


def _spots(data: Any) -> Any:
    """Every (mapping or list, key) in the data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from _spots(value)
