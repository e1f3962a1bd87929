"""Collector of a sweep's cells: removes duplicates, and adds the baselines that cells are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.pairs import SettingVariant, make_cell
from dse.sweep.cells.settings import Setting
from dse.sweep.cells.space import Space
from dse.sweep.language.labels import Label
from dse.trial import Trial


class CellCollector:
    """Collects cells, baselines separately; cells that are the same trial are merged."""

    def __init__(self, space: Space) -> None:
        self.excluded: list[Excluded] = []
        self._exclusion = space.exclusion
        self._factory = space.factory
        self._references: dict[Setting, dict[str, SettingVariant]] = {}
        self._baselines: dict[str, Cell] = {}
        self._others: dict[str, Cell] = {}
        self._cells: dict[str, Cell] = {}
        self._also: dict[str, list[Mapping[str, Label]]] = {}

    def add(self, setting: Setting, pairs: list[SettingVariant], seed: int, listed: bool) -> None:
        """Adds the cells of a setting and a seed, with baselines if a cell is kept or the baseline is ``listed``."""
        if setting not in self._references:
            self._references[setting] = self._factory.baseline_pairs(setting)
        references = self._references[setting]
        trials = {name: pair.trial(seed) for name, pair in references.items()}
        uids = {name: trial.uid for name, trial in trials.items()}
        own = set(uids.values())
        first = next(iter(references.values()))
        labels = first.labels_at(seed)
        reason = self._exclusion.reason(labels, first.variant.recipe) if listed else ""
        kept = [self._keep(pair, seed, uids, own) for pair in pairs]
        if any(kept) or (listed and not reason and not setting.reason):
            into = self._baselines
            for name, pair in references.items():
                into.setdefault(trials[name].uid, make_cell(pair, trials[name], uids))
                into = self._others
        elif listed:
            self.excluded.append(Excluded(labels, reason or setting.reason))

    def cells(self) -> Iterator[Cell]:
        """All cells: those of the first baseline, those of other baselines, the rest."""
        found = dict(self._baselines)
        for cells in (self._others, self._cells):
            found |= {uid: cell for uid, cell in cells.items() if uid not in self._baselines}
        for uid, cell in found.items():
            also = [labels for labels in self._also.get(uid, ()) if labels != cell.labels]
            yield replace(cell, also=tuple(also)) if also else cell

    def _keep(self, pair: SettingVariant, seed: int, uids: Mapping[str, str], references: set[str]) -> bool:
        """Keeps the cell unless something excludes it. Returns whether it was kept."""
        reason = self._exclusion.rules and self._exclusion.reason(pair.labels_at(seed), pair.variant.recipe)
        reason = reason or pair.reason
        if reason:
            self.excluded.append(Excluded(pair.labels_at(seed), reason))
            return False
        trial: Trial = pair.trial(seed)
        if trial.uid in references or trial.uid in self._cells:
            self._also.setdefault(trial.uid, []).append(pair.labels_at(seed))
        else:
            self._cells[trial.uid] = make_cell(pair, trial, uids)
        return True
