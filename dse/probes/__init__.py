"""Probes: what quantization does inside of a training, layer by layer, looked at now and then without disturbing it."""

from dse.probes.schedule import ProbeRow, Probes

__all__ = ["ProbeRow", "Probes"]
