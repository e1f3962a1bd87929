"""Check that no two configurations have one name: reports group results by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dse.errors import UserError
from dse.sweep.cells.cell import Cell
from dse.sweep.definition.spec import Spec
from dse.sweep.language.labels import HEAD, Label, text_of
from dse.sweep.language.source import Location


def check_unique_names(spec: Spec, cells: Iterable[Cell]) -> None:
    """Raises UserError (file:line) where a recipe's label equals the name of another recipe with its options.

    ``cells``: all cells of the sweep. A search without cells yet is refused if it could choose such a pair.
    """
    places = _places(spec)
    suspects = [name for name in places if " " in name and "=" in name]
    if not suspects:
        return
    if spec.search.needs_results:
        for name in (entry.recipe.name for entry in spec.recipes if entry.recipe.name in suspects):
            for other in places:
                path = name.removeprefix(other + " ").partition("=")[0]
                if name.startswith(other + " ") and path in spec.paths:
                    raise _error(places[name], name, other)
        return
    first: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for cell in cells:
        own = str(cell.labels["recipe"]), _options(cell.labels)
        before = first.setdefault(cell.config, own)
        if own != before:
            longer, shorter = sorted((own[0], before[0]), key=len, reverse=True)
            raise _error(places.get(longer, spec.at / "recipes"), longer, shorter)


def _places(spec: Spec) -> dict[str, Location]:
    """Display name -> location in the file, of every recipe and baseline."""
    found = {entry.recipe.name: entry.at for entry in spec.recipes}
    for baseline in spec.baselines:
        found.setdefault(baseline.name, baseline.at)
        found.setdefault(baseline.base, baseline.at)
    return found


def _options(labels: Mapping[str, Label]) -> tuple[tuple[str, str], ...]:
    shown = ((axis, label) for axis, label in labels.items() if axis not in HEAD and not axis.startswith("task."))
    return tuple((axis, text_of(label)) for axis, label in shown if label is not None)


def _error(at: Location, name: str, other: str) -> UserError:
    return at.error(f"recipes: {name!r} is also what {other!r} is called with its options; choose another label")


__all__ = ["check_unique_names"]
