"""Searches that learn from results: what to ask next, what was asked, and Optuna's view of it.

A batch is a pure function of the search's settings and of everything told so far, so that a resumed search goes on as
an undisturbed one would, and two drivers on one results folder ask for the same.
"""

from dse.run.search.ask_loop import SearchLoop, ahead, all_asked, progress, so_far

__all__ = ["SearchLoop", "ahead", "all_asked", "progress", "so_far"]
