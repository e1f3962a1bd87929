"""Inside the layers: what probes saw in a few telling trials, and how they compare with the best and the baseline."""

from dse.report.probed.probe_frame import COLUMNS, inside_frame
from dse.report.probed.scene import ProbedTrial, Scene
from dse.report.probed.story import story
from dse.report.probed.subjects import scenes

__all__ = ["COLUMNS", "ProbedTrial", "Scene", "inside_frame", "scenes", "story"]
