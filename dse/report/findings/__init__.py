"""Findings: the main results as generated sentences, which state when a difference is within the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import Effect
from dse.report.analysis.law_fits import TaskLaw
from dse.report.analysis.place_draws import PlaceDraws
from dse.report.analysis.tidy import TidyTable
from dse.report.findings.alarmed import alarmed_trials
from dse.report.findings.at_hardware import fronts_at_places
from dse.report.findings.effective import effective_shares
from dse.report.findings.finding import CLOSE, Finding
from dse.report.findings.option_effects import strongest_option
from dse.report.findings.per_task import gaps_per_task
from dse.report.findings.recipe_order import cheapest_config, recipe_order
from dse.report.findings.unfinished import unfinished_trials

if TYPE_CHECKING:
    import pandas as pd


def findings(
    table: TidyTable,
    configs: pd.DataFrame,
    found: list[Effect],
    chosen: list[str],
    laws: Sequence[TaskLaw] = (),
    places: Sequence[PlaceDraws] = (),
) -> list[Finding]:
    """At most eight findings, in order of relevance; ``chosen``: the highlighted configurations."""
    if configs.empty or not table.records:
        return []
    overall = configs[configs["task"] == ALL]
    parts = [
        alarmed_trials(table),
        recipe_order(table, overall, found, chosen),
        cheapest_config(overall),
        fronts_at_places(places),
        gaps_per_task(table, configs, chosen),
        strongest_option(found),
        effective_shares(laws),
        unfinished_trials(table),
    ]
    return [part for part in parts if part]


__all__ = ["CLOSE", "Finding", "findings"]
