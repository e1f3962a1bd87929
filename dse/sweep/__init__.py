"""The sweep language: a YAML file becomes cells, and a plan of what would run."""

from dse.sweep.cells import Cell, Excluded, Sweep
from dse.sweep.estimate import Timing, estimate, probe_missing
from dse.sweep.labels import Label, config_of
from dse.sweep.plan import Count, Plan, make_plan
from dse.sweep.probe import Probe, probe_seconds
from dse.sweep.render import plan_text
from dse.sweep.space import load_sweep

__all__ = [
    "Cell",
    "Count",
    "Excluded",
    "Label",
    "Plan",
    "Probe",
    "Sweep",
    "Timing",
    "config_of",
    "estimate",
    "load_sweep",
    "make_plan",
    "plan_text",
    "probe_missing",
    "probe_seconds",
]
