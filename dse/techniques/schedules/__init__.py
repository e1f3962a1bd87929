"""Precision schedules: which numerics a layer uses at which step."""

from dse.techniques.schedules.base import Schedule
from dse.techniques.schedules.forward_only import ForwardOnly
from dse.techniques.schedules.last_stage import LastStage
from dse.techniques.schedules.noise_switch import NoiseSwitch

SCHEDULES: dict[str, type[Schedule]] = {
    "last_stage": LastStage,
    "forward_only": ForwardOnly,
    "noise_switch": NoiseSwitch,
}

__all__ = ["SCHEDULES", "ForwardOnly", "LastStage", "NoiseSwitch", "Schedule"]
