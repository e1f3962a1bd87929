"""What stands around a page's sections: numbers at the top, filters, and the commands that go on from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.results.identity import identity
from dse.results.manifest import read_manifest
from dse.results.record import OK
from dse.shell import command
from dse.text import plural

if TYPE_CHECKING:
    from markupsafe import Markup

    from dse.report.analysis.short_names import ShortNames
    from dse.report.analysis.tidy import TidyTable
    from dse.report.report_data import ReportData

_CHOICES = 40
"""Values of an option that a filter offers."""


def tiles(table: TidyTable) -> list[tuple[str, str]]:
    """The numbers at the top of the page, as (value, name)."""
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


def shortener(names: ShortNames) -> Callable[[str], Markup]:
    """A template filter: text as HTML, in which whole names of tasks and configurations are hints of short ones."""
    from markupsafe import Markup, escape

    def short(text: str) -> Markup:
        made = [
            Markup('<abbr title="{}">{}</abbr>').format(whole, piece) if whole else escape(piece)
            for piece, whole in names.pieces(text)
        ]
        return Markup("").join(made)

    return short


def filters(details: Sequence[Mapping[str, Any] | None]) -> dict[str, list[str]]:
    """Options with several values, and these, of what is shown; the recipe among them."""
    values: dict[str, dict[str, None]] = {}
    for one in filter(None, details):
        for axis, value in one["o"].items():
            values.setdefault(axis, {})[value] = None
    return {axis: [v for v in known if v][:_CHOICES] for axis, known in values.items() if len(known) > 1}


def commands(report: ReportData) -> dict[str, str]:
    """Shell commands that continue, retry and report this sweep, or those that were joined."""
    parts, results = report.sweep.parts or (report.sweep,), report.results
    paths = [shown_path(part.path) for part in parts]
    manifests = [read_manifest(results, identity(part, results)) if results else None for part in parts]
    given: list[dict[str, Any]] = [{"results": results, **(known.options if known else {})} for known in manifests]
    runs = [*zip(paths, given, strict=True)]
    return {
        "run": " && ".join(command("run", path, **own) for path, own in runs),
        "retry": " && ".join(command("run", path, **own, retry="failed") for path, own in runs),
        "ask": command("ask", paths[0], "does OPTION help with OTHER", results=results),
        "report": command("report", *paths, results=results, out=report.out, place=report.asked_places),
    }


def shown_path(path: Path) -> str:
    """The path as text, relative to the working directory where it is inside."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative


__all__ = ["commands", "filters", "shortener", "shown_path", "tiles"]
