"""Searches with Optuna's samplers: the loop that asks and tells, its journal, and an export for optuna-dashboard.

A batch is a pure function of the search's settings and of its results so far, so that a resumed search goes on as an
undisturbed one would, and two drivers on one results folder ask for the same configurations.
"""

from dse.run.search.ask_loop import SearchLoop, ahead, all_asked, progress, so_far

__all__ = ["SearchLoop", "ahead", "all_asked", "progress", "so_far"]
