"""The figures of a report, each drawn once, when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dse.report.analysis.configs import front_numbers
from dse.report.analysis.varied_look import by_varied_option
from dse.report.figures.thinning import at_drawn
from dse.report.probe_summary import ProbedTask
from dse.report.report_data import ReportData
from dse.report.sections.point_details import numbered

if TYPE_CHECKING:
    from dse.report.analysis.deployment import PlaceTimes
    from dse.report.figures.drawing import Drawing
    from dse.report.figures.style import Style


@dataclass(frozen=True)
class ReportFigures:
    """The figures of ``report``; None where there is nothing to show."""

    report: ReportData

    @cached_property
    def main(self) -> dict[str, Drawing | None]:
        """By name: those of losses, effects, curves, searches and loss laws."""
        report = self.report
        if not report.table.records:
            return dict.fromkeys(("overall", "per_task", "forest", "curves", "search", "law"))
        from dse.report.figures import curves, forest, pareto
        from dse.report.figures.search_progress import search_progress
        from dse.report.figures.style import recipe_styles

        numbers = front_numbers(report.configs)
        rows = numbered(report.configs)
        table, configs = by_varied_option(report.table, rows[rows["config"].isin(report.drawn)])
        styles = recipe_styles(table.recipes, table.baseline)
        looks = dict(zip(configs["config"], configs["recipe"], strict=True))
        points = report.points
        if len(points):
            points = points.assign(recipe=points["config"].map(looks))
        return {
            "overall": pareto.overall(table, configs, styles, numbers),
            "per_task": pareto.per_task(table, configs, styles, numbers),
            "forest": forest.forest(report.effects, report.table.tasks),
            "curves": curves.training(table, points, styles),
            "search": search_progress(report.table, report.searches, self._asked) if report.searches else None,
            "law": self._law,
        }

    @property
    def _law(self) -> Drawing | None:
        """Loss laws; colors are those of configurations, which a law may have several of with one recipe."""
        from dse.report.figures.law_panels import law_panels
        from dse.report.figures.style import recipe_styles

        names = dict.fromkeys(own.config for one in self.report.laws for own in one.recipes)
        baselines = dict.fromkeys(one.baseline for one in self.report.laws)
        first = next(iter(baselines), "")
        return law_panels(self.report.laws, recipe_styles([*baselines, *names], first))

    @cached_property
    def at_places(self) -> list[tuple[PlaceTimes, Drawing | None, Drawing | None]]:
        """Models on hardware with the times of the configurations there: figures over all tasks, and of each."""
        if not self.report.table.records:
            return []
        from dse.report.figures.place_panel import at_place, tasks_at_place

        drawn = [at_drawn(place, self.report.drawn) for place in self.report.places]
        return [
            (place, at_place(own, self._looks), tasks_at_place(own, self._looks))
            for place, own in zip(self.report.places, drawn, strict=True)
        ]

    @cached_property
    def after_training(self) -> Drawing | None:
        """Losses after quantization that follows training, against bits and time."""
        report = self.report
        if not report.after_training:
            return None
        from dse.report.figures.post_panels import after_training
        from dse.report.figures.style import recipe_styles

        table, configs = by_varied_option(report.table, numbered(report.configs))
        styles = recipe_styles(table.recipes, table.baseline)
        return after_training(report.after_training, configs, styles, report.after_training_numbers)

    @cached_property
    def inside(self) -> list[tuple[ProbedTask, Drawing | None, Drawing | None]]:
        """Two of each task with probed trials: quantities over the steps, and layers."""
        if not self.report.probed:
            return []
        from dse.report.figures import probe_panels
        from dse.report.figures.style import recipe_styles

        styles = recipe_styles(self.report.table.recipes, self.report.table.baseline)
        return [
            (one, probe_panels.small_multiples(one, styles), probe_panels.layer_heatmaps(one))
            for one in self.report.probed
        ]

    @property
    def files(self) -> dict[str, Drawing]:
        """Every figure by the name of its file."""
        found: dict[str, Drawing | None] = {name.replace("_", "-"): drawn for name, drawn in self.main.items()}
        for i, (_, lines, heat) in enumerate(self.inside, 1):
            found |= {f"inside-{i}": lines, f"inside-{i}-layers": heat}
        for i, (_, overall, tasks) in enumerate(self.at_places, 1):
            found |= {f"place-{i}": overall, f"place-{i}-tasks": tasks}
        found["after-training"] = self.after_training
        return {name: drawn for name, drawn in found.items() if drawn}

    @property
    def _asked(self) -> dict[str, tuple[Style, int]]:
        """Like ``_looks``, of what a search's figure draws; by recipe, since searches vary many options."""
        from dse.report.figures.style import recipe_styles

        styles = recipe_styles(self.report.table.recipes, self.report.table.baseline)
        rows = numbered(self.report.configs)
        shown = zip(rows["config"], rows["recipe"], rows["number"], strict=True)
        return {name: (styles[recipe], int(number)) for name, recipe, number in shown if name in self.report.drawn}

    @cached_property
    def _looks(self) -> dict[str, tuple[Style, int]]:
        """Configuration -> its style, and its number in the page's details."""
        from dse.report.figures.style import recipe_styles

        table, configs = by_varied_option(self.report.table, numbered(self.report.configs))
        styles = recipe_styles(table.recipes, table.baseline)
        shown = zip(configs["config"], configs["recipe"], configs["number"], strict=True)
        return {name: (styles[recipe], int(number)) for name, recipe, number in shown}


__all__ = ["ReportFigures"]
