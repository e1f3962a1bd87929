"""Searches with Optuna's samplers: the loop that asks and tells, its journal, and an export for optuna-dashboard.

A batch is a pure function of the search's settings and of its results so far, so that a resumed search goes on as an
undisturbed one would, and two drivers on one results folder ask for the same configurations.
"""

from dse.run.search.ask_loop import SearchLoop, all_asked, search_progress, with_asked_cells, with_next_cells

__all__ = ["SearchLoop", "all_asked", "search_progress", "with_asked_cells", "with_next_cells"]
