"""The configurations that a search has chosen, in the order of choosing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dse.sweep import Assignment, Sweep


def asked(sweep: Sweep, results: Path | None) -> dict[str, list[tuple[str, str, Assignment]]]:
    """Entry of `tasks` -> (label of the task, configuration, assignment) in order; empty for a grid.

    What depends on results was written down in the ``results`` folder; without it the order is unknown, and nothing
    is returned. Random and Sobol points are drawn again.
    """
    space, search = sweep.space, sweep.search
    if space is None or search.method == "grid" or (search.needs_results and results is None):
        return {}
    from dse.results.identity import identity
    from dse.run.search import journal
    from dse.sweep.cells.sampling import sample_assignments

    written = journal.asked(results, identity(sweep, results), space) if search.needs_results and results else {}
    there = {(str(labels["task"]), config) for labels, config in _configs(sweep)}
    found: dict[str, list[tuple[str, str, Assignment]]] = {}
    for task in space.tasks:
        mine = found[task] = []
        # draws that mean nothing are passed over, and there may be many: not without an end
        source = (
            written[task]
            if search.needs_results
            else islice(sample_assignments(space, task), 10 * (search.trials or 0))
        )
        for assignment in source:
            pair = space.pair(assignment)
            if (str(pair.setting.label), pair.config) in there:
                mine.append((str(pair.setting.label), pair.config, assignment))
            if len(mine) == search.trials:
                break
    return found


def _configs(sweep: Sweep) -> Iterator[tuple[dict[str, object], str]]:
    from dse.sweep import config_of

    for cell in sweep.cells:
        yield dict(cell.labels), cell.config
        for labels in cell.also:
            yield dict(labels), config_of(labels)
