"""What questions are asked about, and what an answer is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dse.report.analysis.configs import aggregate_seeds
from dse.report.analysis.effects import Effect, option_effects
from dse.report.analysis.front_draws import FrontDraws, front_draws
from dse.report.analysis.interactions import ConditionalEffect, interactions
from dse.report.analysis.tidy import TidyTable, tabulate

if TYPE_CHECKING:
    import pandas as pd

    from dse.results.record import Record
    from dse.sweep import Sweep


@dataclass(frozen=True)
class Study:
    """A sweep with its results; what is computed from them is computed once, when it is first asked for."""

    sweep: Sweep
    table: TidyTable

    @classmethod
    def of(cls, sweep: Sweep, records: Iterable[Record]) -> Study:
        """A sweep and its records."""
        return cls(sweep, tabulate(sweep, records))

    @cached_property
    def configs(self) -> pd.DataFrame:
        return aggregate_seeds(self.table)

    @cached_property
    def effects(self) -> list[Effect]:
        return option_effects(self.table)

    @cached_property
    def interactions(self) -> list[ConditionalEffect]:
        return interactions(self.table)

    @cached_property
    def front(self) -> FrontDraws | None:
        return front_draws(self.table, self.configs)

    def trials(self, configs: Sequence[str], task: str = "") -> tuple[str, ...]:
        """uids of the trials of some configurations that have run, on a task or on all."""
        rows = [row for row in self.table.rows if row["config"] in configs and task in ("", row["task"])]
        return tuple(row["uid"] for row in rows if row["uid"] in self.table.records)


@dataclass(frozen=True)
class Answer:
    """One sentence, and the uids of the trials that it rests on."""

    question: str
    sentence: str
    trials: tuple[str, ...] = ()


__all__ = ["Answer", "Study"]
