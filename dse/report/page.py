"""The HTML page: figures and tables of a study, put into the templates."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dse
from dse.report.analysis.agreement import Rankings
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import BASELINE, OPTION, Effect
from dse.report.analysis.equal_budget import ladders
from dse.report.analysis.highlights import marks
from dse.report.analysis.searches import Hunt
from dse.report.analysis.tidy import TidyTable, dicts
from dse.report.findings import findings
from dse.report.output_paths import mark
from dse.report.probed import Scene, story
from dse.report.sections import agreement_rows as agreed
from dse.report.sections import problems
from dse.report.sections import search_rows as hunted
from dse.report.sections import table_rows as views
from dse.report.sections.origin import provenance
from dse.report.sections.sample_strips import grids
from dse.results.identity import identity
from dse.results.manifest import read_manifest
from dse.results.record import OK
from dse.shell import command
from dse.text import duration, plural

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

    from dse.sweep import Sweep

SHOWN = 12
"""Table rows before 'show all'."""


@dataclass(frozen=True)
class Study:
    """Everything computed from a sweep and its records; ``slug`` names the page and the folder of its data.

    ``results``, ``out``: the folders of the results and of the page, as they were named.
    """

    sweep: Sweep
    table: TidyTable
    configs: pd.DataFrame
    effects: list[Effect]
    chosen: list[str]
    points: pd.DataFrame
    slug: str
    hunts: list[Hunt] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    rankings: Rankings | None = None
    results: Path | None = None
    out: Path | None = None

    @cached_property
    def figures(self) -> dict[str, str | None]:
        """Data URIs by name; None where there is nothing to show."""
        if not self.table.records:
            return dict.fromkeys(("overall", "per_task", "forest", "curves", "search"))
        from dse.report.figures import curves, forest, pareto
        from dse.report.figures import search_progress as search
        from dse.report.figures.style import styles

        look = styles(self.table.recipes, self.table.baseline)
        numbers = marks(self.configs)
        return {
            "overall": pareto.overall(self.table, self.configs, look, numbers),
            "per_task": pareto.per_task(self.table, self.configs, look, numbers),
            "forest": forest.forest(self.effects, self.table.tasks),
            "curves": curves.training(self.table, self.points, look),
            "search": search.search(self.table, self.hunts, look) if self.hunts else None,
        }

    @cached_property
    def inside(self) -> list[tuple[Scene, list[str], str | None, str | None]]:
        """Of every task that probes looked into: the trials, sentences, and the data URIs of two figures."""
        from dse.report.figures import probe_panels as inside
        from dse.report.figures.style import styles

        look = styles(self.table.recipes, self.table.baseline)
        return [(one, story(one), inside.multiples(one, look), inside.layers(one)) for one in self.scenes]


def page(study: Study) -> str:
    """The whole page. Everything that comes from outside is escaped by the template engine."""
    table, configs = study.table, study.configs
    tasks = [] if configs.empty else table.tasks
    shown = {task: views.extras(configs, task, table.metric[task]) for task in tasks}
    context: dict[str, Any] = {
        "study": study,
        "sweep": study.sweep,
        "table": table,
        "figures": study.figures,
        "data": study.slug,
        "tiles": _tiles(study),
        "findings": findings(table, configs, study.effects, study.chosen),
        "members": views.front_members(configs, marks(configs)),
        "overview": views.overview(table, configs, study.chosen),
        "extras": shown,
        "in_bf16": {task: views.in_bf16(configs, task) for task in tasks},
        "configurations": {task: views.configurations(configs, task, shown[task], table.others) for task in tasks},
        "effects": views.effect_rows(study.effects),
        "has_options": any(e.kind == OPTION for e in study.effects),
        "has_interval": any(e.lost.df > 0 for e in study.effects),
        "versus": views.versus(study.effects, table.recipes),
        "baselines": 0 if configs.empty else configs.loc[configs["is_baseline"], "config"].nunique(),
        "untied": _untied(configs),
        "hunts": [(hunt, hunted.found(hunt, configs), hunted.shares(hunt)) for hunt in study.hunts],
        "rankings": agreed.shown(study.rankings) if study.rankings else None,
        "ladders": ladders(study.sweep, table),
        "inside": study.inside,
        "grids": [] if configs.empty else grids(table, configs, study.chosen),
        "first_baseline": next((name for cell in study.sweep.cells for name in cell.baselines), table.baseline),
        "divergences": problems.divergences(table, study.results),
        "stops": problems.stops(table, study.results),
        "failures": problems.failures(table, study.results),
        "missing": problems.missing(table),
        "merged": problems.merged(study.sweep),
        "exclusions": problems.exclusions(study.sweep.excluded),
        "provenance": provenance(table),
        "limit": SHOWN,
        "mark": mark(study.sweep),
        "path": _path(study.sweep.path),
        "commands": _commands(study),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "dse": dse.__version__,
        "constants": {"ALL": ALL, "OPTION": OPTION, "BASELINE": BASELINE},
    }
    return _environment().get_template("page.html.j2").render(context)


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


def _commands(study: Study) -> dict[str, str]:
    """What a reader may want to type, by what it does."""
    path, results = _path(study.sweep.path), study.results
    manifest = read_manifest(results, identity(study.sweep, results)) if results else None
    run: dict[str, Any] = {"results": results, **(manifest.options if manifest else {})}
    return {
        "run": command("run", path, **run),
        "retry": command("run", path, **run, retry="failed"),
        "report": command("report", path, results=results, out=study.out),
    }


def _tiles(study: Study) -> list[tuple[str, str]]:
    """(value, name) of what was run."""
    table = study.table
    frame = table.frame
    if frame.empty:
        return []
    done = len(table.records)
    run = f"of {plural(len(frame), 'trial')} run" if done < len(frame) else "trials run" if done > 1 else "trial run"
    ok = sum(record.status == OK for record in table.records.values())
    seeds = frame["seed"].nunique()
    return [
        (f"{done:,}", run),
        (f"{ok:,}", "finished with a number"),
        (f"{len(table.tasks):,}", "task" if len(table.tasks) == 1 else "tasks"),
        (f"{len(table.recipes):,}", "recipe" if len(table.recipes) == 1 else "recipes"),
        (f"{frame['config'].nunique():,}", "configurations"),
        (f"{seeds:,}", "seed" if seeds == 1 else "seeds"),
    ]


def _untied(configs: pd.DataFrame) -> list[str]:
    """Configurations without a place on the all-task figure, and why."""
    if configs.empty:
        return []
    rows = configs[(configs["task"] == ALL) & configs["lost_mean"].isna() & ~configs["is_baseline"]]
    return [f"{r['config']} ({r['why'] or 'unknown'})" for r in dicts(rows)]


def _path(path: Path) -> str:
    """As one would type it: relative to the working directory where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
