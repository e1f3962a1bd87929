"""Summary of probe measurements: a few trials per task (diverged, worst, best, baseline), compared layer by layer."""

from dse.report.probe_summary.probe_frame import COLUMNS, shown_probe_frame
from dse.report.probe_summary.probed_task import ProbedTask, ProbedTrial
from dse.report.probe_summary.selection import probed_tasks
from dse.report.probe_summary.sentences import probe_sentences

__all__ = ["COLUMNS", "ProbedTask", "ProbedTrial", "probe_sentences", "probed_tasks", "shown_probe_frame"]
