"""Options of the block quantizer, their checks, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dse.errors import OptionError, nearest
from dse.numerics import micro_exponents
from dse.numerics.formats import E2M1, E8M0, Format
from dse.numerics.ops import FREE, Ops
from dse.numerics.quantizer import Quantizer
from dse.numerics.techniques.choices import Candidate, Choice
from dse.numerics.techniques.conventions import DECODE, Convention, Level
from dse.numerics.techniques.corrections import Correction
from dse.numerics.techniques.outliers import Outliers
from dse.numerics.techniques.rounding import NEAREST_EVEN, Rounding
from dse.numerics.techniques.slopes import STRAIGHT_THROUGH, Slope
from dse.numerics.techniques.statistics import ABSMAX, GRADIENTS, Statistic
from dse.numerics.techniques.tensor_scales import TensorScale


@dataclass(frozen=True)
class BlockSpec(Quantizer):
    """What a ``BlockQuantizer`` consists of: formats, block size, and one member of each family of techniques.

    - ``element``, ``scale``: formats of the elements and of the block scale;
    - ``block``: elements along the contraction axis that share a scale; ``tile``: rows that share it. 0 means all:
      ``block: 0`` is one scale per row (per token, per channel), with ``tile: 0`` per tensor;
    - ``rounding``, ``scale_rounding``: of elements and of scales; ``slope``, ``scale_slope``: their Q' and q';
    - ``statistic``: Z; ``scale_gradient``: 'constant', 'full' or 'diagonal', how Z takes part in the backward pass;
    - ``constant``: c, the element value that Z is mapped to (default: the largest element; OCP MX uses the largest
      power of two, 4 for E2M1); above the largest element it clips, 6 / .92 by 8 % of Z;
    - ``gain``: elements are cast from gain * X / s_q and decoded by 1 / gain (3/4 keeps OCP floor scales from
      saturating under stochastic rounding); it is applied in the epilogue;
    - ``convention``: decode or encode; ``tensor_scale``: a second-level FP32 scale, or none;
    - ``outliers``: what is split off before; ``choice``: several candidates per block, or none;
    - ``correction``: what makes new scales once the elements are known, or nothing;
    - ``micro_exponents``: sizes of parts of a block (of all its rows) whose scale a bit of their own may double, each
      a part of the one before: HiFloat4's [8, 4].

    Raises OptionError for a value out of range.
    """

    element: Format = E2M1
    scale: Format = E8M0
    block: int = 32
    tile: int = 1
    rounding: Rounding = NEAREST_EVEN
    scale_rounding: Rounding = NEAREST_EVEN
    slope: Slope = STRAIGHT_THROUGH
    scale_slope: Slope = STRAIGHT_THROUGH
    statistic: Statistic = ABSMAX
    scale_gradient: str = "constant"
    constant: float | None = None
    gain: float = 1.0
    convention: Convention = DECODE
    tensor_scale: TensorScale | None = None
    outliers: Outliers | None = None
    choice: Choice | None = None
    correction: Correction | None = None
    micro_exponents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("block", "tile"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must be at least 0 (0: all), not {getattr(self, name)}")
        if self.constant is not None and not 0 < self.constant < float("inf"):
            raise OptionError(f"constant must be positive and finite, not {self.constant}")
        micro_exponents.check(self.micro_exponents, self.block)
        if not 0 < self.gain <= 1:
            raise OptionError(f"gain must lie in (0, 1], not {self.gain}")
        if (
            self.choice is not None
            and any(c.codes for c in self._candidates())
            and self.scale.exp + self.scale.man > 15
        ):
            raise OptionError(f"scale_sweep needs a scale format with few codes, not {self.scale.name}")
        if self.scale_gradient not in GRADIENTS:
            raise OptionError(
                f"scale_gradient cannot be {self.scale_gradient!r}{nearest(self.scale_gradient, GRADIENTS)}"
            )

    @property
    def straight_through(self) -> bool:
        return (
            self.slope.is_identity
            and self.scale_gradient == "constant"
            and self.convention.encode_with == "quantized"
            and (self.outliers is None or self.outliers.straight_through)
            and (self.tensor_scale is None or self.tensor_scale.gradient == "ignore")
        )

    @property
    def random_bits(self) -> int:
        again = 0 if self.correction is None else self.correction.rounding().random_bits
        return max(self.rounding.random_bits, self.scale_rounding.random_bits, again)

    @property
    def remembers(self) -> bool:
        return self.tensor_scale is not None and self.tensor_scale.remembers

    @property
    def constant_scales(self) -> bool:
        """Whether the backward pass takes all scales as constants, so that an element's gradient is its own affair."""
        ignored = self.tensor_scale is None or self.tensor_scale.gradient == "ignore"
        return self.scale_gradient == "constant" and ignored

    def _candidates(self) -> tuple[Candidate, ...]:
        c = self.element.max if self.constant is None else self.constant
        return (Candidate(self.element, c),) if self.choice is None else self.choice.candidates(self.element, c)

    @property
    def _undone(self) -> float:
        """What undoes the gain, and the unit of a choice's values."""
        return (1.0 if self.choice is None else self.choice.unit) / self.gain

    @property
    def _target(self) -> float:
        """T of the tensor scale; c times a largest value of 2^127 is beyond FP32."""
        own = self.tensor_scale and self.tensor_scale.target
        return own or (self.scale.max if self.scale.exp < 8 else 1.0)

    def _for_candidate(self, level: Level, how: Candidate) -> Level:
        """With a choice among constants, S_enc is that of the quantizer's own c, so that every candidate shares it."""
        if self.choice is None:
            return level
        own = self._candidates()[0].constant
        return Level(level.g, level.target * own / how.constant, own if self.choice.divides else None)

    def block_shape(self, rows: int, columns: int) -> tuple[int, int]:
        return min(self.tile or rows, rows), min(self.block or columns, columns)  # a larger one is cut, not padded

    def ops(self) -> tuple[tuple[str, Ops], ...]:
        base = Ops(element=2, block=2, why="scale and cast 2/element, divide and cast the scale 2/block")
        statistic = self.statistic.ops()
        if self.block == self.tile == 0 and self.tensor_scale is None:  # whose own pass finds both
            statistic = replace(statistic, reads=1, syncs=1, why=f"{statistic.why}, over the whole operand first")
        return _at_work(
            (f"{self.element.name} in blocks", base),
            ("statistic", statistic),
            ("convention", self.convention.ops()),
            ("element rounding", self.rounding.ops()),
            ("scale rounding", _per_block(self.scale_rounding.ops())),
            ("tensor scale", self.tensor_scale.ops() if self.tensor_scale else FREE),
            ("outliers", self.outliers.ops() if self.outliers else FREE),
            ("choice", self.choice.ops() if self.choice else FREE),
            ("micro-exponents", _micro(len(self.micro_exponents))),
            ("correction", self.correction.ops() if self.correction else FREE),
        )

    def vjp_ops(self) -> tuple[tuple[str, Ops], ...]:
        constant = self.scale_gradient == "constant"
        return _at_work(
            ("element slope", self.slope.ops()),
            ("scale gradient", FREE if constant else self.statistic.slope_ops()),
            ("scale slope", FREE if constant else _per_block(self.scale_slope.ops())),
            ("tensor scale gradient", self.tensor_scale.slope_ops() if self.tensor_scale else FREE),
        )


def _at_work(*parts: tuple[str, Ops]) -> tuple[tuple[str, Ops], ...]:
    """The parts that cost anything."""
    return tuple((name, ops) for name, ops in parts if ops != Ops(why=ops.why))


def _micro(levels: int) -> Ops:
    return Ops(element=2 * levels, why=f"abs and max, 2/element for each of {levels} levels")


def _per_block(ops: Ops) -> Ops:
    """Counts of a technique that works on scales: what it costs per element it costs per block."""
    return Ops(
        block=ops.element + ops.block,
        block_bits=ops.random_bits + ops.block_bits,
        why=ops.why.replace("/element", "/block"),
    )
