"""Precision schedules: which numerics a layer uses at which step."""

from dse.numerics.techniques.schedules.base import Schedule
from dse.numerics.techniques.schedules.forward_only import ForwardOnly
from dse.numerics.techniques.schedules.last_stage import LastStage
from dse.numerics.techniques.schedules.noise_switch import NoiseSwitch
from dse.numerics.techniques.schedules.switch import Switch

SCHEDULES: dict[str, type[Schedule]] = {
    "last_stage": LastStage,
    "forward_only": ForwardOnly,
    "noise_switch": NoiseSwitch,
    "switch": Switch,
}

__all__ = ["SCHEDULES", "ForwardOnly", "LastStage", "NoiseSwitch", "Schedule", "Switch"]
