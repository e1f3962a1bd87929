"""The sweep language: a YAML file becomes cells, and a plan of what would run."""

from dse.sweep.axes import Axis, Dimension
from dse.sweep.cell import baselines_at, cell_at
from dse.sweep.cells import Cell, Excluded, Sweep
from dse.sweep.editor import schema_json
from dse.sweep.estimate import Timing, estimate, probe_missing
from dse.sweep.expansion import MANY_CELLS, expand, load_sweep, with_cells
from dse.sweep.labels import Label, config_of
from dse.sweep.plan import Count, Plan, make_plan
from dse.sweep.probe import Probe, probe_seconds
from dse.sweep.ranges import Range
from dse.sweep.render import plan_text
from dse.sweep.search import Search
from dse.sweep.space import Assignment, Space, Suggest

__all__ = [
    "MANY_CELLS",
    "Assignment",
    "Axis",
    "Cell",
    "Count",
    "Dimension",
    "Excluded",
    "Label",
    "Plan",
    "Probe",
    "Range",
    "Search",
    "Space",
    "Suggest",
    "Sweep",
    "Timing",
    "baselines_at",
    "cell_at",
    "config_of",
    "estimate",
    "expand",
    "load_sweep",
    "make_plan",
    "plan_text",
    "probe_missing",
    "probe_seconds",
    "schema_json",
    "with_cells",
]
