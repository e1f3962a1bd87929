"""Plans: which trials a sweep would run, and how long they would take."""

from dse.plan.estimate import Timing, estimate, probe_missing
from dse.plan.idle_rules import check_rules, model_of
from dse.plan.plan import Count, Plan, make_plan
from dse.plan.plan_text import plan_text
from dse.plan.timing_probe import Probe, probe_seconds

__all__ = [
    "Count",
    "Plan",
    "Probe",
    "Timing",
    "check_rules",
    "estimate",
    "make_plan",
    "model_of",
    "plan_text",
    "probe_missing",
    "probe_seconds",
]
