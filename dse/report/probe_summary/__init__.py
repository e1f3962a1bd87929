"""Inside the layers: what probes saw in a few telling trials, and how they compare with the best and the baseline."""

from dse.report.probe_summary.probe_frame import COLUMNS, shown_probe_frame
from dse.report.probe_summary.probed_task import ProbedTask, ProbedTrial
from dse.report.probe_summary.selection import probed_tasks
from dse.report.probe_summary.sentences import probe_sentences

__all__ = ["COLUMNS", "ProbedTask", "ProbedTrial", "probe_sentences", "probed_tasks", "shown_probe_frame"]
