"""What a report shows, computed from a sweep and its records, before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.analysis.agreement import RankingComparison
from dse.report.analysis.claim_results import ClaimResult
from dse.report.analysis.deployment import PlaceTimes, place_times
from dse.report.analysis.effects import Effect
from dse.report.analysis.front_draws import FrontDraws
from dse.report.analysis.interactions import ConditionalEffect
from dse.report.analysis.law_fits import TaskLaw
from dse.report.analysis.learned import LearnedShare
from dse.report.analysis.mixed_results import MixedResult, mixed_results
from dse.report.analysis.place_draws import PlaceDraws, place_draws
from dse.report.analysis.post_front import PostConfig, post_front
from dse.report.analysis.proxies import SizeProxy, StepProxy
from dse.report.analysis.searches import SearchHistory
from dse.report.analysis.tidy import TidyTable
from dse.report.analysis.variance_shares import VarianceShares
from dse.report.figures.thinning import drawn_configs, place_fronts, search_fronts
from dse.report.probe_summary import ProbedTask
from dse.report.sections import table_rows
from dse.report.sections.point_details import numbered, point_details

if TYPE_CHECKING:
    import pandas as pd

    from dse.cost.cost_places import CostPlace
    from dse.sweep import Sweep


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows, computed from a sweep and its records.

    - ``configs``: the table's rows aggregated over seeds; ``points``: training curves of the ``highlighted`` configs;
    - ``learned``: shares of seeds that learn, by task; ``claims``: published claims, as far as the sweep tests them;
    - ``laws``: loss laws of the language models that the sweep has in several sizes;
    - ``slug``: file name of the page, without its ending, and of the folder of its data;
    - ``results``, ``out``: the folders of the results and of the page, as the user named them;
    - ``asked_places``: where times are stated, in the place of the sweep's.
    """

    sweep: Sweep
    table: TidyTable
    configs: pd.DataFrame
    effects: list[Effect]
    highlighted: list[str]
    points: pd.DataFrame
    slug: str
    searches: list[SearchHistory] = field(default_factory=list)
    probed: list[ProbedTask] = field(default_factory=list)
    rankings: RankingComparison | None = None
    interactions: Sequence[ConditionalEffect] = ()
    variance: VarianceShares | None = None
    front: FrontDraws | None = None
    steps: Sequence[StepProxy] = ()
    sizes: Sequence[SizeProxy] = ()
    learned: Mapping[str, Sequence[LearnedShare]] = field(default_factory=dict)
    claims: Sequence[ClaimResult] = ()
    laws: Sequence[TaskLaw] = ()
    results: Path | None = None
    out: Path | None = None
    asked_places: tuple[CostPlace, ...] = ()

    @cached_property
    def drawn(self) -> set[str]:
        """The configurations that the figures draw."""
        panels = (1 + len(self.places)) * (1 + len(self.table.tasks))
        chosen = drawn_configs(self.configs, self.table.tasks, panels)
        return chosen | place_fronts(self.places) | search_fronts(self.searches)

    @cached_property
    def extra_metrics(self) -> dict[str, list[str]]:
        """Task -> the held-out metrics shown beside the primary one."""
        tasks = [] if self.configs.empty else self.table.tasks
        return {task: table_rows.extra_metrics(self.configs, task, self.table.metric[task]) for task in tasks}

    @cached_property
    def config_tables(self) -> dict[str, list[table_rows.TableRow]]:
        """Task -> the rows of its table: the configurations that lose least, as many as a page holds."""
        rows, shown, others = numbered(self.configs), self.extra_metrics, self.table.others
        return {
            task: table_rows.config_rows(rows, task, extra, others)[: table_rows.MOST_ROWS // len(shown)]
            for task, extra in shown.items()
        }

    @cached_property
    def details(self) -> list[dict[str, Any] | None]:
        """What each point tells, by the number of its configuration."""
        listed = {row.number for rows in self.config_tables.values() for row in rows}
        return point_details(self.table, self.configs, self.results, self.drawn, listed)

    @cached_property
    def places(self) -> list[PlaceTimes]:
        """The configurations' times of a training step at models on hardware; where all quantize after training, of
        places that are asked for alone."""
        if self.table.after_training and not (self.asked_places or self.sweep.places):
            return []
        return place_times(self.sweep, self.configs, self.asked_places)

    @cached_property
    def place_draws(self) -> list[PlaceDraws]:
        """How sure the fronts at these places are."""
        return place_draws(self.table, self.places)

    @cached_property
    def after_training(self) -> list[PostConfig]:
        """Configurations that quantize after training, the fewest bits first."""
        return post_front(self.sweep, self.table, self.configs)

    @cached_property
    def mixed(self) -> list[MixedResult]:
        """The law of mixed quantization, where budgets of bits vary."""
        return mixed_results(self.table)

    @cached_property
    def after_training_numbers(self) -> dict[str, str]:
        """Labels of those on a front."""
        front = [one.config for one in self.after_training if (one.by_bits or one.by_time) and not one.baseline]
        return {name: str(i) for i, name in enumerate(front, 1)}


__all__ = ["ReportData"]
