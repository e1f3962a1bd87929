"""Short names of a sweep's tasks and configurations for sentences; tables and hints have the whole ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from dse.report.analysis.tidy import TidyTable, label_text
from dse.sweep import config_of

_WORD = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*")
_NO_WORDS = ("true", "false", "none", "True", "False", "None")
_MOST = 4
"""Options of a task that are tried in all combinations, for the fewest that tell it from others."""


@dataclass(frozen=True)
class ShortNames:
    """Whole name -> short name, of ``table``'s tasks and configurations; names that cannot be shortened are not there.

    - A task: its name, with 'finetuning' where it starts from a trained model, and of its options the fewest that tell
      it from the sweep's other tasks.
    - A configuration: without the options that all configurations share that are not baselines.
    """

    table: TidyTable

    @cached_property
    def tasks(self) -> dict[str, str]:
        whole = {name: _parts(name) for name in self.table.tasks}
        groups: dict[str, list[str]] = defaultdict(list)
        for name, (kind, options) in whole.items():
            groups[f"{kind} finetuning" if "start" in options else kind].append(name)
        short = {}
        for head, names in groups.items():
            own = {name: dict(whole[name][1]) for name in names}
            if len(names) == 1:
                own[names[0]].pop("start", None)
            for name, words in _distinguished(own).items():
                short[name] = " ".join([head, *words])
        return {name: brief for name, brief in short.items() if len(brief) < len(name)}

    @cached_property
    def configs(self) -> dict[str, str]:
        cells = list({cell.config: cell for cell in self.table.cells.values() if not cell.is_baseline}.values())
        if len(cells) < 2:
            return {}
        own = [{axis: label_text(label) for axis, label in cell.labels.items()} for cell in cells]
        shared = {axis for axis in self.table.axes if len({labels.get(axis, "") for labels in own}) == 1}
        found = {}
        for cell in cells:
            short = config_of({axis: label for axis, label in cell.labels.items() if axis not in shared})
            if config_of(cell.labels) == cell.config and len(short) < len(cell.config):
                found[cell.config] = short
        taken = {cell.config for cell in self.table.cells.values()}
        return {name: short for name, short in found.items() if short not in taken}

    @cached_property
    def all(self) -> dict[str, str]:
        """Of both, the longest whole names first."""
        both = self.tasks | self.configs
        return {name: both[name] for name in sorted(both, key=len, reverse=True)}

    def pieces(self, text: str) -> Iterator[tuple[str, str]]:
        """The text in pieces, each with the whole name that it stands for, or '' where it is only text."""
        there = [name for name in self.all if name in text]
        if not there:
            yield text, ""
            return
        at = 0
        for found in re.finditer("|".join(map(re.escape, there)), text):
            if found.start() > at:
                yield text[at : found.start()], ""
            yield self.all[found[0]], found[0]
            at = found.end()
        if at < len(text):
            yield text[at:], ""


def _parts(label: str) -> tuple[str, dict[str, str]]:
    """The name and the options of a task's label, 'lm(text=stdlib, start=bf16(text=a))' for example."""
    name, opened, inner = label.partition("(")
    if not opened or not inner.endswith(")"):
        return label, {}
    options, depth, begin = [], 0, 0
    inner = inner[:-1]
    for i, char in enumerate(inner):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and not depth:
            options.append(inner[begin:i])
            begin = i + 1
    options.append(inner[begin:])
    split = (one.strip().partition("=") for one in options)
    return name, {key: value for key, _, value in split}


def _distinguished(options: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Task -> the words of the fewest options in which the tasks differ that tell all of them apart."""
    keys = list(dict.fromkeys(key for own in options.values() for key in own))
    varied = [key for key in keys if len({own.get(key) for own in options.values()}) > 1]
    sizes = range(len(varied) + 1) if len(varied) <= _MOST else [len(varied)]
    for chosen in (c for size in sizes for c in combinations(varied, size)):
        words = {name: [_word(key, own[key]) for key in chosen if key in own] for name, own in options.items()}
        if len({tuple(own) for own in words.values()}) == len(options):
            return words
    return {name: [_word(key, own[key]) for key in varied if key in own] for name, own in options.items()}


def _word(key: str, value: str) -> str:
    return value if _WORD.fullmatch(value) and value not in _NO_WORDS else f"{key}={value}"


def few(names: Sequence[str], most: int) -> list[str]:
    """The first ``most`` names, with how many more there are as the last."""
    return [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)


def own_names(rows: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Configuration -> its recipe where no other row has the same, else its whole name."""
    listed = list(rows)
    recipes = [row["recipe"] for row in listed]
    return {row["config"]: row["recipe"] if recipes.count(row["recipe"]) == 1 else row["config"] for row in listed}


__all__ = ["ShortNames", "few", "own_names"]
