"""Inside the layers: what probes saw in a few telling trials, and how they compare with the best and the baseline."""

from dse.report.inside.frame import COLUMNS, inside_frame
from dse.report.inside.story import story
from dse.report.inside.subjects import Scene, Subject, scenes

__all__ = ["COLUMNS", "Scene", "Subject", "inside_frame", "scenes", "story"]
