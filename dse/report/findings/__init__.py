"""Findings: the main results as generated sentences, which state when a difference is within the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.report.analysis.configs import ALL, one_per_recipe
from dse.report.analysis.effects import Effect
from dse.report.analysis.law_fits import TaskLaw
from dse.report.analysis.place_draws import PlaceDraws
from dse.report.analysis.post_front import PostConfig
from dse.report.analysis.tidy import TidyTable
from dse.report.analysis.varied_look import by_varied_option
from dse.report.findings.after_training import fronts_after_training
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
    laws: Sequence[TaskLaw] = (),
    places: Sequence[PlaceDraws] = (),
    after: Sequence[PostConfig] = (),
) -> list[Finding]:
    """At most eight findings, in order of relevance; alarms are apart (``alarmed_trials``).

    ``after``: configurations that quantize after training; where all do, nothing is said of the time of a training
    step.
    """
    if configs.empty or not table.records:
        return []
    overall = configs[configs["task"] == ALL]
    chosen = one_per_recipe(*by_varied_option(table, configs))
    parts = [
        fronts_after_training(after) if table.after_training else None,
        recipe_order(table, overall, chosen),
        cheapest_config(overall),
        None if table.after_training else fronts_at_places(places),
        gaps_per_task(table, configs, chosen),
        strongest_option(found),
        effective_shares(laws),
        unfinished_trials(table),
    ]
    return [part for part in parts if part]


__all__ = ["CLOSE", "Finding", "alarmed_trials", "findings"]
