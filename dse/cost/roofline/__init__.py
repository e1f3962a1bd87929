"""Time of a training step at a deployed model's shapes on hardware: a roofline with a stated rule of fusion.

``step_interval(recipe, deployed("llama3-8b"), machine("b200")).relative`` is the time of a step against BF16, from
``OPTIMISTIC`` (all that can be fused is) to ``AS_MEASURED`` (separate kernels). How it is built and how far it agrees
with measurements: docs/cost-model.md.
"""

from __future__ import annotations

from dse.cost.profiles import profile
from dse.cost.roofline.constants import Constants, constants
from dse.cost.roofline.layer_seconds import AS_MEASURED, OPTIMISTIC, Assumptions, LayerTime, gemm_seconds, layer_time
from dse.cost.roofline.stages import Fusion, Stage, stages
from dse.cost.roofline.step_seconds import STEP_PARTS, Interval, StepTime, step_interval, step_time, time_to_quality
from dse.cost.roofline.times import GemmCall, Machine
from dse.cost.roofline.units import gemm_rate
from dse.cost.roofline.work import Work


def machine(name: str) -> Machine:
    """Hardware by name (``PROFILES``) or .yaml file, with the constants that come with the package."""
    return Machine(profile(name), constants())


__all__ = [
    "AS_MEASURED",
    "OPTIMISTIC",
    "STEP_PARTS",
    "Assumptions",
    "Constants",
    "Fusion",
    "GemmCall",
    "Interval",
    "LayerTime",
    "Machine",
    "Stage",
    "StepTime",
    "Work",
    "constants",
    "gemm_rate",
    "gemm_seconds",
    "layer_time",
    "machine",
    "stages",
    "step_interval",
    "step_time",
    "time_to_quality",
]
