"""The HTML page: figures and tables of a study, put into the templates."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.analysis.configs import ALL, front_numbers
from dse.report.analysis.effects import BASELINE, OPTION
from dse.report.analysis.law_fits import LARGE, TOKENS_PER_PARAMETER
from dse.report.analysis.proxies import TOLERATED
from dse.report.analysis.rungs import rung_tables
from dse.report.analysis.short_names import ShortNames
from dse.report.analysis.tidy import row_dicts
from dse.report.findings import alarmed_trials, findings
from dse.report.inline_figures import InlineFigures
from dse.report.output_paths import sweep_hashes
from dse.report.questions import Answer, Study, standing_questions
from dse.report.report_data import ReportData
from dse.report.report_figures import ReportFigures
from dse.report.sections import alarm_rows, page_frame, problems, search_rows, table_rows
from dse.report.sections.agreement_rows import agreement_tables
from dse.report.sections.claim_rows import BETTER, SAME, claim_rows
from dse.report.sections.interaction_rows import interaction_map
from dse.report.sections.law_rows import law_rows, size_name, warning
from dse.report.sections.learned_rows import learned_rows
from dse.report.sections.point_details import as_script, numbered
from dse.report.sections.provenance import provenance
from dse.report.sections.sample_grids import sample_grids
from dse.text import duration, plural
from dse.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

SHOWN = 12
"""Table rows before 'show all'."""
MOST = 100
"""Rows of tables that list trials or every configuration."""


def render_page(report: ReportData, figures: ReportFigures, standalone: bool = False) -> str:
    """The whole page. Everything that comes from outside is escaped by the template engine.

    ``standalone``: without links to the files beside it.
    """
    from markupsafe import Markup

    table, configs = report.table, numbered(report.configs)
    tasks = [] if configs.empty else table.tasks
    inline = InlineFigures(report, figures)
    answers = _answers(report)
    context: dict[str, Any] = {
        "report": report,
        "sweep": report.sweep,
        "table": table,
        "figures": inline.main,
        "details": Markup(as_script(report.details)),
        "filters": page_frame.filters(report.details),
        "data": report.slug,
        "standalone": standalone,
        "tiles": page_frame.tiles(table),
        "answers": answers,
        "alarmed": alarmed_trials(table, [one.sentence for one in answers]),
        "findings": findings(table, configs, report.effects, report.laws, report.place_draws, report.after_training),
        "members": table_rows.front_rows(configs, front_numbers(configs), report.front),
        "overview": table_rows.overview_rows(table, configs, report.highlighted),
        "extras": report.extra_metrics,
        "in_bf16": {task: table_rows.has_bf16_metrics(configs, task) for task in tasks},
        "configurations": report.config_tables,
        "configs_per_task": table_rows.MOST_ROWS // max(1, len(tasks)),
        "effects": table_rows.effect_rows(report.effects),
        "has_options": any(e.kind == OPTION for e in report.effects),
        "has_interval": any(e.lost.df > 0 for e in report.effects),
        "one_seed": table.frame["seed"].nunique() < 2 if len(table.frame) else False,
        "recipes": len(table.recipes),
        "versus": table_rows.recipe_matrix(report.effects, table.recipes),
        "baselines": 0 if configs.empty else configs.loc[configs["is_baseline"], "config"].nunique(),
        "untied": _not_on_figure(configs),
        "drawn": len(report.drawn),
        "all_configs": len(report.details),
        "deployment": inline.at_places,
        "after_training": inline.after_training,
        "searches": [
            (search, search_rows.front_rows(search, configs), search_rows.importance_rows(search))
            for search in report.searches
        ],
        "rankings": agreement_tables(report.rankings) if report.rankings else None,
        "interactions": interaction_map(report.interactions),
        "variance": report.variance,
        "front": report.front,
        "front_others": _near_front(report),
        "step_proxies": report.steps,
        "size_proxies": report.sizes,
        "tolerated": TOLERATED,
        "learned": learned_rows(report.learned),
        "claims": claim_rows(report.claims),
        "laws": law_rows(report.laws),
        "law_sizes": [size_name(size) for size in LARGE],
        "law_tokens": TOKENS_PER_PARAMETER,
        "law_warning": warning,
        "rung_tables": rung_tables(report.sweep, table),
        "inside": inline.inside,
        "grids": [] if configs.empty else sample_grids(table, configs, report.highlighted),
        "first_baseline": next((name for cell in report.sweep.cells for name in cell.baselines), table.baseline),
        "alarms": alarm_rows.alarm_groups(table, report.results),
        "divergences": problems.divergences(table, report.results),
        "stops": problems.stops(table, report.results),
        "failures": problems.failures(table, report.results),
        "missing": problems.missing(table),
        "merged": problems.merged(report.sweep),
        "exclusions": problems.exclusions(report.sweep.excluded),
        "provenance": provenance(table, (cell.trial for cell in report.sweep.cells)),
        "limit": SHOWN,
        "most": MOST,
        "mark": sweep_hashes(report.sweep, report.out or Path()),
        "path": ", ".join(page_frame.shown_path(part.path) for part in report.sweep.parts or (report.sweep,)),
        "commands": page_frame.commands(report),
        "written": _now().strftime("%Y-%m-%d %H:%M UTC"),
        "dse": __version__,
        "constants": {
            "ALL": ALL,
            "OPTION": OPTION,
            "BASELINE": BASELINE,
            "MATRIX": table_rows.MATRIX,
            "BETTER": BETTER,
            "SAME": SAME,
        },
    }
    environment = _environment()
    environment.filters["short"] = page_frame.shortener(ShortNames(table))
    return environment.get_template("page.html.j2").render(context)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plural=plural, duration=duration)
    return environment


def _not_on_figure(configs: pd.DataFrame) -> list[str]:
    """Configurations that the figure over all tasks leaves out, and why."""
    if configs.empty:
        return []
    rows = configs[(configs["task"] == ALL) & configs["lost_mean"].isna() & ~configs["is_baseline"]]
    return [f"{r['config']} ({r['why'] or 'unknown'})" for r in row_dicts(rows)]


def _answers(report: ReportData) -> list[Answer]:
    """The standing questions, with what the report has computed already."""
    study = Study(report.sweep, report.table)
    known = {"configs": report.configs, "effects": report.effects, "interactions": list(report.interactions)}
    vars(study).update(known, front=report.front)
    return standing_questions(study)


def _near_front(report: ReportData) -> list[tuple[str, float]]:
    """Configurations off the front that are on it in a tenth of the draws or more, at most five."""
    if report.front is None:
        return []
    rows = report.configs[(report.configs["task"] == ALL) & report.configs["front"]]
    members = set(rows["config"])
    others = [(name, p) for name, p in report.front.probability.items() if p >= 0.1 and name not in members]
    return sorted(others, key=lambda pair: -pair[1])[:5]


def _now() -> datetime:
    """The time, or that of SOURCE_DATE_EPOCH (reproducible-builds.org), with which equal results give equal pages."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now(UTC)
