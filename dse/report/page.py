"""The HTML page: figures and tables of a study, put into the templates."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.analysis.agreement import RankingComparison
from dse.report.analysis.claim_results import ClaimResult
from dse.report.analysis.configs import ALL, front_numbers
from dse.report.analysis.deployment import PlaceTimes, place_times
from dse.report.analysis.effects import BASELINE, OPTION, Effect
from dse.report.analysis.front_draws import FrontDraws
from dse.report.analysis.interactions import ConditionalEffect
from dse.report.analysis.learned import LearnedShare
from dse.report.analysis.post_front import PostConfig, best_at_four_bits, post_front
from dse.report.analysis.proxies import TOLERATED, SizeProxy, StepProxy
from dse.report.analysis.rungs import rung_tables
from dse.report.analysis.searches import SearchHistory
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.report.analysis.variance_shares import VarianceShares
from dse.report.analysis.varied_look import by_varied_option
from dse.report.figures.thinning import at_drawn, drawn_configs, place_fronts
from dse.report.findings import findings
from dse.report.output_paths import sweep_hashes
from dse.report.probe_summary import ProbedTask, probe_sentences
from dse.report.questions import Answer, Study, standing_questions
from dse.report.sections import alarm_rows, problems, search_rows, table_rows
from dse.report.sections.agreement_rows import agreement_tables
from dse.report.sections.claim_rows import claim_rows
from dse.report.sections.figure_texts import described_figures
from dse.report.sections.interaction_rows import interaction_map
from dse.report.sections.learned_rows import learned_rows
from dse.report.sections.point_details import as_script, numbered, point_details
from dse.report.sections.provenance import provenance
from dse.report.sections.sample_grids import sample_grids
from dse.results.identity import identity
from dse.results.manifest import read_manifest
from dse.results.record import OK
from dse.shell import command
from dse.text import duration, plural
from dse.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from markupsafe import Markup

    from dse.cost.cost_places import CostPlace
    from dse.report.figures.drawing import Drawing
    from dse.sweep import Sweep

_TITLED = 40
"""Configurations up to which points carry all of their text in the figures too, for browsers without JavaScript; with
more they carry their names."""
_CHOICES = 40
"""Values of an option that a filter offers."""
SHOWN = 12
"""Table rows before 'show all'."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows, computed from a sweep and its records.

    - ``configs``: the table's rows aggregated over seeds; ``points``: training curves of the ``highlighted`` configs;
    - ``learned``: shares of seeds that learn, by task; ``claims``: published claims, as far as the sweep tests them;
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
    results: Path | None = None
    out: Path | None = None
    asked_places: tuple[CostPlace, ...] = ()

    @cached_property
    def drawn(self) -> set[str]:
        """The configurations that the Pareto figures draw."""
        panels = (1 + len(self.places)) * (1 + len(self.table.tasks))
        return drawn_configs(self.configs, self.table.tasks, panels) | place_fronts(self.places)

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
    def figures(self) -> dict[str, Drawing | None]:
        """By name; None where there is nothing to show."""
        if not self.table.records:
            return dict.fromkeys(("overall", "per_task", "forest", "curves", "search"))
        from dse.report.figures import curves, forest, pareto
        from dse.report.figures.search_progress import search_progress
        from dse.report.figures.style import recipe_styles

        numbers = front_numbers(self.configs)
        rows = numbered(self.configs)
        table, configs = by_varied_option(self.table, rows[rows["config"].isin(self.drawn)])
        styles, own = (recipe_styles(known.recipes, known.baseline) for known in (table, self.table))
        looks = dict(zip(configs["config"], configs["recipe"], strict=True))
        points = self.points.assign(recipe=self.points["config"].map(looks)) if len(self.points) else self.points
        return {
            "overall": pareto.overall(table, configs, styles, numbers),
            "per_task": pareto.per_task(table, configs, styles, numbers),
            "forest": forest.forest(self.effects, self.table.tasks),
            "curves": curves.training(table, points, styles),
            "search": search_progress(self.table, self.searches, own) if self.searches else None,
        }

    @cached_property
    def places(self) -> list[PlaceTimes]:
        """The configurations' times at models on hardware."""
        return place_times(self.sweep, self.configs, self.asked_places)

    @cached_property
    def deployment(self) -> list[tuple[PlaceTimes, Drawing | None, Drawing | None]]:
        """Models on hardware with the times of the configurations there: figures over all tasks, and of each."""
        if not self.table.records:
            return []
        from dse.report.figures.place_panel import at_place, tasks_at_place
        from dse.report.figures.style import recipe_styles

        table, configs = by_varied_option(self.table, numbered(self.configs))
        styles = recipe_styles(table.recipes, table.baseline)
        shown = zip(configs["config"], configs["recipe"], configs["number"], strict=True)
        looks = {name: (styles[recipe], int(number)) for name, recipe, number in shown}
        drawn = [at_drawn(place, self.drawn) for place in self.places]
        return [
            (place, at_place(own, looks), tasks_at_place(own, looks))
            for place, own in zip(self.places, drawn, strict=True)
        ]

    @cached_property
    def after_training(self) -> list[PostConfig]:
        """Configurations that quantize after training, the fewest bits first."""
        return post_front(self.sweep, self.table, self.configs)

    @cached_property
    def after_training_numbers(self) -> dict[str, str]:
        """Labels of those on a front."""
        front = [one.config for one in self.after_training if (one.by_bits or one.by_time) and not one.baseline]
        return {name: str(i) for i, name in enumerate(front, 1)}

    @cached_property
    def after_training_figure(self) -> Drawing | None:
        """Their losses against bits and time."""
        if not self.after_training:
            return None
        from dse.report.figures.post_panels import after_training
        from dse.report.figures.style import recipe_styles

        table, configs = by_varied_option(self.table, numbered(self.configs))
        styles = recipe_styles(table.recipes, table.baseline)
        return after_training(self.after_training, configs, styles, self.after_training_numbers)

    @cached_property
    def after_training_section(self) -> dict[str, Any] | None:
        """What the section about them shows."""
        from markupsafe import Markup

        drawn = self.after_training_figure
        if drawn is None:
            return None
        sentence, rows = best_at_four_bits(self.after_training), self.after_training
        seen = f"Improvement lost of {plural(len(rows), 'configuration')} against bits per weight and time. {sentence}"
        inline = Markup(drawn.inline("after-training", seen, self._title))
        return {"rows": rows, "numbers": self.after_training_numbers, "sentence": sentence, "drawn": inline}

    @cached_property
    def inline_figures(self) -> dict[str, Markup | None]:
        """The figures as HTML, with descriptions of what is seen."""
        from markupsafe import Markup

        said = described_figures(self.table, self.configs, self.effects, self.points)
        return {
            name: Markup(drawn.inline(name, said[name], self._title)) if drawn else None
            for name, drawn in self.figures.items()
        }

    @cached_property
    def inline_places(self) -> list[tuple[PlaceTimes, Markup | None, Markup | None]]:
        """The places with their figures as HTML."""
        from markupsafe import Markup

        found = []
        for i, (place, overall, tasks) in enumerate(self.deployment, 1):
            seen = f"Improvement lost against the time of a step, BF16 = 1, {place.title}."
            parts = ((overall, f"place-{i}", place.main[:1]), (tasks, f"place-{i}-tasks", place.tasks))
            inline = [
                Markup(drawn.inline(name, f"{seen} {' '.join(one.described for one in own)}", self._title))
                if drawn
                else None
                for drawn, name, own in parts
            ]
            found.append((place, inline[0], inline[1]))
        return found

    @property
    def _title(self) -> Callable[[int], str]:
        """What a point tells without JavaScript, by its configuration's number."""
        few = len(self.details) <= _TITLED

        def title(number: int) -> str:
            one = self.details[number]
            return "\n".join([one["n"], *(one["t"] if few else ())]) if one else ""

        return title

    @property
    def drawings(self) -> dict[str, Drawing]:
        """Every figure by the name of its file."""
        found = {name.replace("_", "-"): drawn for name, drawn in self.figures.items() if drawn}
        for i, (*_, lines, heat) in enumerate(self.probe_sections, 1):
            own = {f"inside-{i}": lines, f"inside-{i}-layers": heat}
            found |= {name: drawn for name, drawn in own.items() if drawn}
        for i, (_, overall, tasks) in enumerate(self.deployment, 1):
            own = {f"place-{i}": overall, f"place-{i}-tasks": tasks}
            found |= {name: drawn for name, drawn in own.items() if drawn}
        if self.after_training_figure:
            found["after-training"] = self.after_training_figure
        return found

    @cached_property
    def probe_sections(self) -> list[tuple[ProbedTask, list[str], Drawing | None, Drawing | None]]:
        """For each task with probed trials: the trials, sentences about them, and two figures."""
        from dse.report.figures import probe_panels
        from dse.report.figures.style import recipe_styles

        styles = recipe_styles(self.table.recipes, self.table.baseline)
        return [
            (one, probe_sentences(one), probe_panels.small_multiples(one, styles), probe_panels.layer_heatmaps(one))
            for one in self.probed
        ]


def render_page(report: ReportData) -> str:
    """The whole page. Everything that comes from outside is escaped by the template engine."""
    from markupsafe import Markup

    table, configs = report.table, numbered(report.configs)
    tasks = [] if configs.empty else table.tasks
    context: dict[str, Any] = {
        "report": report,
        "sweep": report.sweep,
        "table": table,
        "figures": report.inline_figures,
        "details": Markup(as_script(report.details)),
        "filters": _filters(report.details),
        "data": report.slug,
        "tiles": _tiles(report),
        "answers": _answers(report),
        "findings": findings(table, configs, report.effects, report.highlighted),
        "members": table_rows.front_rows(configs, front_numbers(configs), report.front),
        "overview": table_rows.overview_rows(table, configs, report.highlighted),
        "extras": report.extra_metrics,
        "in_bf16": {task: table_rows.has_bf16_metrics(configs, task) for task in tasks},
        "configurations": report.config_tables,
        "configs_per_task": table_rows.MOST_ROWS // max(1, len(tasks)),
        "effects": table_rows.effect_rows(report.effects),
        "has_options": any(e.kind == OPTION for e in report.effects),
        "has_interval": any(e.lost.df > 0 for e in report.effects),
        "versus": table_rows.recipe_matrix(report.effects, table.recipes),
        "baselines": 0 if configs.empty else configs.loc[configs["is_baseline"], "config"].nunique(),
        "untied": _not_on_figure(configs),
        "drawn": len(report.drawn),
        "all_configs": len(report.details),
        "deployment": report.inline_places,
        "after_training": report.after_training_section,
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
        "rung_tables": rung_tables(report.sweep, table),
        "inside": _inside(report),
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
        "mark": sweep_hashes(report.sweep, report.out or Path()),
        "path": ", ".join(_path(part.path) for part in report.sweep.parts or (report.sweep,)),
        "commands": _commands(report),
        "written": _now().strftime("%Y-%m-%d %H:%M UTC"),
        "dse": __version__,
        "constants": {"ALL": ALL, "OPTION": OPTION, "BASELINE": BASELINE, "MATRIX": table_rows.MATRIX},
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


def _commands(report: ReportData) -> dict[str, str]:
    """Shell commands that continue, retry and report this sweep, or those that were joined."""
    parts, results = report.sweep.parts or (report.sweep,), report.results
    paths = [_path(part.path) for part in parts]
    manifests = [read_manifest(results, identity(part, results)) if results else None for part in parts]
    given: list[dict[str, Any]] = [{"results": results, **(known.options if known else {})} for known in manifests]
    runs = [*zip(paths, given, strict=True)]
    return {
        "run": " && ".join(command("run", path, **own) for path, own in runs),
        "retry": " && ".join(command("run", path, **own, retry="failed") for path, own in runs),
        "ask": command("ask", paths[0], "does OPTION help with OTHER", results=results),
        "report": command("report", *paths, results=results, out=report.out, place=report.asked_places),
    }


def _tiles(report: ReportData) -> list[tuple[str, str]]:
    """The numbers at the top of the page, as (value, name)."""
    table = report.table
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


def _not_on_figure(configs: pd.DataFrame) -> list[str]:
    """Configurations that the figure over all tasks leaves out, and why."""
    if configs.empty:
        return []
    rows = configs[(configs["task"] == ALL) & configs["lost_mean"].isna() & ~configs["is_baseline"]]
    return [f"{r['config']} ({r['why'] or 'unknown'})" for r in row_dicts(rows)]


def _filters(details: Sequence[Mapping[str, Any] | None]) -> dict[str, list[str]]:
    """Options with several values, and these, of what is shown; the recipe among them."""
    values: dict[str, dict[str, None]] = {}
    for one in filter(None, details):
        for axis, value in one["o"].items():
            values.setdefault(axis, {})[value] = None
    return {axis: [v for v in known if v][:_CHOICES] for axis, known in values.items() if len(known) > 1}


def _inside(report: ReportData) -> list[tuple[ProbedTask, list[str], Markup | None, Markup | None]]:
    from markupsafe import Markup

    found = []
    for i, (probed, sentences, lines, heat) in enumerate(report.probe_sections, 1):
        alt = f"Probe quantities of {probed.task} over the steps: {' '.join(sentences)}"
        layers = f"Errors of the layers of {probed.focus.config} over the steps, as heat maps"
        drawn = [
            Markup(one.inline(f"inside{i}{kind}", said)) if one else None
            for one, kind, said in ((lines, "a", alt), (heat, "b", layers))
        ]
        found.append((probed, sentences, drawn[0], drawn[1]))
    return found


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


def _path(path: Path) -> str:
    """The path as text, relative to the working directory where it is inside."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative


def _now() -> datetime:
    """The time, or that of SOURCE_DATE_EPOCH (reproducible-builds.org), with which equal results give equal pages."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(fixed), UTC) if fixed.isdigit() else datetime.now(UTC)
