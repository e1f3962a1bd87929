"""The figures of a report as HTML, with descriptions of what is seen and titles of their points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from dse.report.analysis.deployment import PlaceTimes
from dse.report.analysis.post_front import best_at_four_bits
from dse.report.probe_summary import ProbedTask, probe_sentences
from dse.report.report_data import ReportData
from dse.report.report_figures import ReportFigures
from dse.report.sections.figure_texts import described_figures
from dse.text import plural

if TYPE_CHECKING:
    from markupsafe import Markup

    from dse.report.figures.drawing import Drawing

_TITLED = 40
"""Configurations up to which points carry all of their text in the figures too, for browsers without JavaScript; with
more they carry their names."""
_NAME = 100
"""Characters of such a name that a point carries; the page's own tooltips have all of it."""


@dataclass(frozen=True)
class InlineFigures:
    """The ``figures`` of a ``report`` as parts of its page."""

    report: ReportData
    figures: ReportFigures

    @cached_property
    def main(self) -> dict[str, Markup | None]:
        """By name: those of losses, effects, curves, searches and loss laws."""
        report = self.report
        said = described_figures(report.table, report.configs, report.effects, report.points, report.laws)
        return {name: self._inline(drawn, name, said[name]) for name, drawn in self.figures.main.items()}

    @cached_property
    def at_places(self) -> list[tuple[PlaceTimes, Markup | None, Markup | None]]:
        """The places with their figures."""
        found = []
        for i, (place, overall, tasks) in enumerate(self.figures.at_places, 1):
            seen = f"Improvement lost against the time of a step, BF16 = 1, {place.title}."
            parts = ((overall, f"place-{i}", place.main[:1]), (tasks, f"place-{i}-tasks", place.tasks))
            inline = [
                self._inline(drawn, name, f"{seen} {' '.join(one.described for one in own)}")
                for drawn, name, own in parts
            ]
            found.append((place, inline[0], inline[1]))
        return found

    @cached_property
    def after_training(self) -> dict[str, Any] | None:
        """What the section about quantization after training shows."""
        rows = self.report.after_training
        if not rows:
            return None
        sentence = best_at_four_bits(rows)
        seen = f"Improvement lost of {plural(len(rows), 'configuration')} against bits per weight and time. {sentence}"
        drawn = self._inline(self.figures.after_training, "after-training", seen)
        numbers, laws = self.report.after_training_numbers, [str(one) for one in self.report.mixed]
        return {"rows": rows, "numbers": numbers, "sentence": sentence, "laws": laws, "drawn": drawn}

    @cached_property
    def inside(self) -> list[tuple[ProbedTask, list[str], Markup | None, Markup | None]]:
        """Of each task with probed trials: sentences about them, and two figures."""
        found = []
        for i, (probed, lines, heat) in enumerate(self.figures.inside, 1):
            sentences = probe_sentences(probed)
            alt = f"Probe quantities of {probed.task} over the steps: {' '.join(sentences)}"
            layers = f"Errors of the layers of {probed.focus.config} over the steps, as heat maps"
            shown = self._inline(lines, f"inside{i}a", alt), self._inline(heat, f"inside{i}b", layers)
            found.append((probed, sentences, *shown))
        return found

    def _inline(self, drawn: Drawing | None, name: str, said: str) -> Markup | None:
        from markupsafe import Markup

        return Markup(drawn.inline(name, said, self._title)) if drawn else None

    def _title(self, number: int) -> str:
        """What a point tells without JavaScript, by its configuration's number."""
        details = self.report.details
        if not (one := details[number]):
            return ""
        return (
            "\n".join([one["n"], *one["t"]]) if len(details) <= _TITLED else shorten(one["n"], _NAME, placeholder=" …")
        )


__all__ = ["InlineFigures"]
