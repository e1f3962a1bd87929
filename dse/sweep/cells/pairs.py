"""Pairs of a setting (task and training) and a variant (recipe). With a seed, a pair is a cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from dse.sweep.cells.cell import Cell
from dse.sweep.cells.settings import Setting, SettingCache
from dse.sweep.cells.variants import Variant, VariantCache
from dse.sweep.definition.spec import Spec
from dse.sweep.language.labels import Label, text_of
from dse.trial import Trial, not_after


@dataclass(frozen=True, eq=False)
class SettingVariant:
    """A setting and a variant: everything of a cell but its seed. ``labels`` are those of the axes, in order."""

    setting: Setting
    variant: Variant
    labels: Mapping[str, Label]
    config: str

    @property
    def reason(self) -> str:
        """Why it cannot exist, or empty."""
        return self.setting.reason or self.variant.reason or not_after(self.setting.training, self.variant.recipe)

    def labels_at(self, seed: int) -> dict[str, Label]:
        """The labels of the cell with this seed."""
        return {"task": self.setting.label, "recipe": self.variant.name, "seed": seed, **self.labels}

    def trial(self, seed: int) -> Trial:
        """A trial whose canonical content and identity are put together from parts that were computed once.

        `Trial.spec` and `Trial.uid` would give the same (a test holds this), in many times the time: thousands of
        cells share a recipe.
        """
        setting, variant = self.setting, self.variant
        trial = Trial(setting.task, setting.training, variant.recipe, seed, setting.start_at(seed))
        before, between, after = setting.json_frame
        text = f"{before}{variant.text}{between}{seed}{after}"
        own = vars(trial)  # fills the cached properties
        own["spec"] = {**setting.content, "recipe": variant.data, "seed": seed}
        own["uid"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return trial


PairsBySetting = dict[Setting, list[SettingVariant]]
"""Setting -> the pairs that share it, and so their baselines."""


class PairFactory:
    """Makes the pairs of one sweep. Settings and variants are cached, since many cells share them."""

    def __init__(self, spec: Spec) -> None:
        """Raises UserError (file:line) for an axis of task options that fits none of the tasks."""
        self.settings = SettingCache(spec)
        self.variants = VariantCache(spec)
        self.baselines = [(baseline, self.variants.for_baseline(baseline)) for baseline in spec.baselines]
        self._blank: dict[str, Label] = dict.fromkeys(spec.paths)

    def pair(self, setting: Setting, variant: Variant) -> SettingVariant:
        labels = {**self._blank, **setting.labels, **variant.labels}
        own = [_piece(axis, label) for axis, label in labels.items() if label is not None and axis[:5] != "task."]
        return SettingVariant(setting, variant, labels, " ".join([variant.name, *own]))

    def baseline_pairs(self, setting: Setting) -> dict[str, SettingVariant]:
        """The baselines of the cells with this setting, by name."""
        return {
            baseline.name: self.pair(self.settings.for_baseline(setting, baseline), variant)
            for baseline, variant in self.baselines
        }


def make_cell(pair: SettingVariant, trial: Trial, baselines: Mapping[str, str]) -> Cell:
    """The cell of a pair's trial, compared with ``baselines``: name -> uid, the first being the one for gaps."""
    first = next(iter(baselines.values()))
    return Cell(trial, pair.labels_at(trial.seed), pair.config, first, trial.uid == first, (), baselines)


@lru_cache(4096, typed=True)
def _piece(axis: str, label: Label) -> str:
    return f"{axis}={text_of(label)}"
