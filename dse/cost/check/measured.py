"""Measured points: published times and rates that the time model is fitted to or checked against."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dse.cost.described import Described, NonEmpty, read
from dse.cost.profiles.profile import Width
from dse.cost.roofline.stages import Fusion

Shape = tuple[PositiveInt, PositiveInt, PositiveInt]
"""Tokens, inputs, outputs."""


class Measured(Described):
    """A measured value with its source. ``fit``: whether constants are fitted to it, or it is held out."""

    name: NonEmpty
    group: NonEmpty
    hardware: NonEmpty
    value: PositiveFloat
    source: NonEmpty
    fit: bool = False
    note: str = ""


class Numerics(Described):
    """A recipe of the gallery with options set, and GEMMs taken from other ones."""

    base: NonEmpty
    set: dict[str, Any] = Field(default_factory=dict)
    gemms: dict[Literal["fprop", "dgrad", "wgrad"], Numerics] = Field(default_factory=dict)


class LayersTime(Measured):
    """Milliseconds of a GEMM, or of all three, over some layers; each operand quantized anew, or before."""

    kind: Literal["layers"]
    shapes: tuple[Shape, ...]
    numerics: Numerics
    gemms: tuple[Literal["fprop", "dgrad", "wgrad"], ...]
    quantized_before: bool = False


class KernelTime(Measured):
    """Microseconds of a kernel that measures or quantizes a tensor at some of its points."""

    kind: Literal["kernel"]
    shape: Shape
    numerics: Numerics
    stage: Literal["maxima", "quantization"]
    points: tuple[NonEmpty, ...]
    portable: bool = False


class GemmRate(Measured):
    """TFLOP/s of a GEMM of operands that are quantized before."""

    kind: Literal["gemm"]
    shape: Shape
    width: Width


class TrainingRate(Measured):
    """Tokens per second and GPU of a training."""

    kind: Literal["training"]
    model: NonEmpty
    tokens: PositiveInt | None = None
    numerics: Numerics
    fusion: Fusion


class RateRatio(Measured):
    """Tokens per second of a training over those of the same with the numerics ``against``."""

    kind: Literal["ratio"]
    model: NonEmpty
    tokens: PositiveInt | None = None
    numerics: Numerics
    against: Numerics
    fusion: Fusion


MeasuredPoint = Annotated[LayersTime | KernelTime | GemmRate | TrainingRate | RateRatio, Field(discriminator="kind")]


class MeasuredPoints(Described):
    """All measured points."""

    points: tuple[MeasuredPoint, ...]


@cache
def measured_points() -> tuple[MeasuredPoint, ...]:
    """The points that come with the package (``points.yaml``)."""
    return read(Path(__file__).parent / "points.yaml", MeasuredPoints).points


__all__ = [
    "GemmRate",
    "KernelTime",
    "LayersTime",
    "Measured",
    "MeasuredPoint",
    "MeasuredPoints",
    "Numerics",
    "RateRatio",
    "TrainingRate",
    "measured_points",
]
