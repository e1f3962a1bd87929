"""From a sweep file to its cells: every trial it asks for, each once, with the baselines they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

from dse.sweep.cells import Cell, Excluded, Sweep
from dse.sweep.exclude import Exclusion
from dse.sweep.labels import Label, config_of
from dse.sweep.settings import Setting, settings_of
from dse.sweep.spec import Spec, read_spec
from dse.sweep.variants import Variant, variants_of
from dse.trial import Trial

MOST_CELLS = 1_000_000


def load_sweep(path: Path | str) -> Sweep:
    """Reads, checks and expands a sweep file. Raises UserError: one line that begins with file:line."""
    return expand(read_spec(Path(path)))


def expand(spec: Spec) -> Sweep:
    """Every cell of a sweep. Raises UserError when nothing is left to run, or there is far too much."""
    count = len(spec.tasks) * len(spec.recipes) * len(spec.seeds) * prod(len(axis.values) for axis in spec.axes)
    if count > MOST_CELLS:
        raise spec.source.error(("grid",), f"the sweep has {count:,} cells; at most {MOST_CELLS:,} fit")
    settings = settings_of(spec)
    baseline, variants = variants_of(spec)
    names = {setting.label: setting.task.name for setting in settings}
    recipes = [baseline.recipe.name, *(entry.recipe.name for entry in spec.recipes)]
    axes: dict[str, tuple[Label, ...]] = {
        "task": tuple(names),
        "recipe": tuple(dict.fromkeys(recipes)),
        "seed": spec.seeds,
        **{axis.path: axis.labels for axis in spec.axes},
    }
    collector = _Collector(spec, baseline, Exclusion(spec.source, spec.exclude, axes, names))
    for seed in spec.seeds:
        for setting in settings:
            collector.add(setting, variants, seed)
    collector.exclusion.refuse_idle()
    cells, excluded = tuple(collector.cells()), tuple(collector.excluded)
    if not cells:
        text = f"nothing to run: all {len(excluded)} cells are excluded, the first because: {excluded[0].reason}"
        raise spec.source.error((), text)
    return Sweep(spec.name, spec.source.path, spec.source.text, cells, excluded, axes)


class _Collector:
    """Gathers cells: baselines apart from the rest, equal trials once."""

    def __init__(self, spec: Spec, baseline: Variant, exclusion: Exclusion) -> None:
        self.exclusion = exclusion
        self.excluded: list[Excluded] = []
        self._baseline = baseline
        self._listed = any(entry is spec.baseline for entry in spec.recipes)
        self._blank: dict[str, Label] = {axis.path: None for axis in spec.axes}
        self._cells: dict[str, Cell] = {}
        self._baselines: dict[str, Cell] = {}
        self._also: dict[str, list[Mapping[str, Label]]] = {}

    def add(self, setting: Setting, variants: list[Variant], seed: int) -> None:
        """All cells of one task, training and seed; with their baseline if it is listed, or any of them is kept."""
        baseline = _trial(setting, self._baseline, seed)
        labels = self._labels(setting, self._baseline, seed)
        reason = self.exclusion.reason(labels) if self._listed else ""
        kept = [self._offer(setting, variant, seed, baseline.uid) for variant in variants]
        if any(kept) or (self._listed and not reason and not setting.reason):
            self._keep(self._baselines, baseline, labels, baseline.uid)
        elif self._listed:
            self.excluded.append(Excluded(labels, reason or setting.reason))

    def cells(self) -> Iterator[Cell]:
        """Baselines first."""
        for uid, cell in [*self._baselines.items(), *self._cells.items()]:
            yield replace(cell, also=tuple(self._also[uid])) if uid in self._also else cell

    def _offer(self, setting: Setting, variant: Variant, seed: int, baseline_uid: str) -> bool:
        """Keeps the cell unless something excludes it; whether it was kept."""
        labels = self._labels(setting, variant, seed)
        reason = self.exclusion.reason(labels) or setting.reason or variant.reason
        if reason:
            self.excluded.append(Excluded(labels, reason))
            return False
        trial = _trial(setting, variant, seed)
        if trial.uid == baseline_uid:
            self._also.setdefault(baseline_uid, []).append(labels)
        else:
            self._keep(self._cells, trial, labels, baseline_uid)
        return True

    def _keep(self, cells: dict[str, Cell], trial: Trial, labels: Mapping[str, Label], baseline_uid: str) -> None:
        if trial.uid in cells:
            self._also.setdefault(trial.uid, []).append(labels)
        else:
            cells[trial.uid] = Cell(trial, labels, config_of(labels), baseline_uid, trial.uid == baseline_uid)

    def _labels(self, setting: Setting, variant: Variant, seed: int) -> dict[str, Label]:
        head: dict[str, Label] = {"task": setting.label, "recipe": variant.recipe.name, "seed": seed}
        return {**head, **self._blank, **setting.labels, **variant.labels}


def _trial(setting: Setting, variant: Variant, seed: int) -> Trial:
    """A trial whose canonical content is put together from parts that were computed once.

    `Trial.spec` would give the same (a test holds this), in ten times the time: thousands of cells share a recipe.
    """
    trial = Trial(setting.task, setting.training, variant.recipe, seed)
    vars(trial)["spec"] = {**setting.content, "recipe": variant.data, "seed": seed}  # fills the cached property
    return trial
