"""Time of a training step of a deployed model under a recipe, its parts, and views of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dse.cost.models import Deployed, placed
from dse.cost.models.placed import core_numerics
from dse.cost.overhead import operand_bits
from dse.cost.point_counts import techniques
from dse.cost.roofline.layer_seconds import AS_MEASURED, OPTIMISTIC, PARTS, Assumptions, layer_time
from dse.cost.roofline.stages import Fusion
from dse.cost.roofline.times import GemmCall, Machine
from dse.cost.shapes import LayerShape
from dse.cost.sharing import TENSORS
from dse.cost.training_phases import training_phases
from dse.nn.attention import as_linear
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import GEMMS, POINTS, Recipe
from dse.recipes.bf16 import BF16

STEP_PARTS = (*PARTS, "attention", "head", "elementwise", "optimizer")
"""What a step's time goes to: the linears' parts, and the rest."""
_OPTIMIZER_BYTES = 30
"""Bytes per parameter and step: master weight and two moments read and written in FP32, gradient read, BF16 written."""
_BACKWARD_CORE = 5
"""Products of attention's backward pass, one of them the scores computed again; the forward pass has two."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step of one GPU by part, and what the hardware lacks for the recipe's operands."""

    parts: Mapping[str, float]
    missing: tuple[str, ...]
    tokens: int

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second and GPU."""
        return self.tokens / self.seconds


def step_time(recipe: Recipe, model: Deployed, machine: Machine, setting: Assumptions = AS_MEASURED) -> StepTime:
    """Time of one step of ``model`` (``tokens`` per group of tensor-parallel GPUs) on one GPU.

    Linears as ``layer_time``; attention's products at the achieved share of the 16-bit peak, or of that of their
    operands; the head in BF16; norms, activations and residuals as memory traffic; the optimizer's share of it. All of
    it takes ``sustained`` times as long as its kernels alone. With a schedule, the mean over the steps of a training
    (``training_phases``). A recipe that quantizes after training trains in BF16.
    """
    recipe = recipe if recipe.post is None else BF16
    found = [(one.share, _step(one.recipe, model, machine, setting)) for one in training_phases(recipe)]
    parts = {name: sum(share * step.parts[name] for share, step in found) for name in STEP_PARTS}
    missing = dict.fromkeys(lacks for _, step in found for lacks in step.missing)
    return StepTime(parts, tuple(missing), model.tokens // model.tensor_parallel)


def _step(recipe: Recipe, model: Deployed, machine: Machine, setting: Assumptions) -> StepTime:
    """A step with the numerics that a recipe has before its schedule changes anything."""
    parts = dict.fromkeys(STEP_PARTS, 0.0)
    missing: dict[str, None] = {}
    for one in placed(recipe, model):
        time = layer_time(one.recipe, one.shape, machine, setting, one.experts)
        parts |= {name: parts[name] + own * one.shape.count for name, own in time.parts.items()}
        missing |= dict.fromkeys(time.missing)
    parts["attention"] = _attention(recipe, model, machine, setting)
    parts["head"] = _head(model, machine)
    parts["elementwise"] = _elementwise(model, machine, setting)
    parts["optimizer"] = machine.move(_OPTIMIZER_BYTES * _on_one_gpu(recipe, model) / model.optimizer_shards)
    sustained = machine.constants.sustained
    own = {name: parts[name] * sustained for name in STEP_PARTS}
    return StepTime(own, tuple(missing), model.tokens // model.tensor_parallel)


def _on_one_gpu(recipe: Recipe, model: Deployed) -> float:
    linears = sum(one.parameters for one in placed(recipe, model))
    return linears + 2 * model.hidden * model.vocabulary / model.tensor_parallel


def _head(model: Deployed, machine: Machine) -> float:
    if not model.vocabulary:
        return 0.0
    columns = -(-model.vocabulary // model.tensor_parallel)
    m, k = model.tokens, model.hidden
    return sum(machine.gemm(GemmCall(*sides, 16)) for sides in ((m, columns, k), (m, k, columns), (columns, k, m)))


def _elementwise(model: Deployed, machine: Machine, setting: Assumptions) -> float:
    """The forward pass and twice as much backward, in BF16, split over the group (sequence parallel)."""
    count = Counter(model.blocks)
    elements = sum(model.kinds[kind].elementwise * times for kind, times in count.items())
    left = machine.constants.fused_elementwise if setting.fusion == Fusion.FUSED else 1.0
    return machine.move(left * 3 * 2 * elements * model.tokens / model.tensor_parallel)


def _attention(recipe: Recipe, model: Deployed, machine: Machine, setting: Assumptions) -> float:
    total = 0.0
    for (kind, own), blocks in core_numerics(recipe, model).items():
        core = model.kinds[kind].core
        assert core is not None
        seen = max(int(core.seen(model.sequence)), 1)
        heads = max(core.heads // model.tensor_parallel, 1)
        one = 2.0 * model.tokens * seen * core.width * heads
        share = machine.constants.attention
        if own.attention is None:
            total += blocks * (2 + _BACKWARD_CORE) * one / (share * machine.profile.peak(16))
            continue
        for name, shape in (("scores", (core.width, seen)), ("outputs", (seen, core.width))):
            product = as_linear(getattr(own.attention, name))
            layer = LayerShape(name, model.tokens, *shape)
            again = ("fprop",) if name == "scores" else ()
            gemms = sum(one / (share * machine.profile.peak(_width(product, g))) for g in (*GEMMS, *again))
            hidden = heads * _operations(product, layer, machine)
            fused = setting.fusion == Fusion.FUSED
            total += blocks * (max(gemms, hidden) if fused else gemms + hidden)
    return total


def _width(recipe: Recipe, name: str) -> int:
    gemm: Gemm = getattr(recipe, name)
    bits = max(operand_bits(gemm.lhs), operand_bits(gemm.rhs))
    return 4 if bits <= 4 else 8 if bits <= 8 else 16


def _operations(recipe: Recipe, shape: LayerShape, machine: Machine) -> float:
    """Seconds of the operations that quantize attention's operands, which stay on the chip."""
    count = sum(ops.element * shape.size(TENSORS[point]) for point in POINTS for _, ops in techniques(recipe, point))
    return count / (machine.constants.vector * machine.vector)


@dataclass(frozen=True)
class Interval:
    """Time of a step against BF16 at both ends, under the assumptions of ``OPTIMISTIC`` and of ``AS_MEASURED``."""

    low: StepTime
    high: StepTime
    low_base: StepTime
    high_base: StepTime

    @property
    def relative(self) -> tuple[float, float]:
        """Time of a step, BF16 = 1: from all that can be fused is, to separate kernels; in this order of size."""
        ends = (self.low.seconds / self.low_base.seconds, self.high.seconds / self.high_base.seconds)
        return min(ends), max(ends)

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        ends = (self.low.tokens_per_second, self.high.tokens_per_second)
        return min(ends), max(ends)

    @property
    def missing(self) -> tuple[str, ...]:
        return self.high.missing


def step_interval(recipe: Recipe, model: Deployed, machine: Machine) -> Interval:
    """The step's time at both ends of what is assumed about kernels and hardware, each beside BF16 under the same."""
    ends = [step_time(own, model, machine, how) for own in (recipe, BF16) for how in (OPTIMISTIC, AS_MEASURED)]
    low, high, low_base, high_base = ends
    return Interval(low, high, low_base, high_base)


def time_to_quality(relative: float, extra_tokens: float) -> float:
    """Time to equal quality against BF16: (1 + extra tokens) / (1 + gain), with 1 + gain = 1 / relative time.

    ``extra_tokens``: share of tokens more than BF16 needs for the same loss. Source: arXiv 2610.00053.
    """
    return (1 + extra_tokens) * relative


__all__ = ["STEP_PARTS", "Interval", "StepTime", "step_interval", "step_time", "time_to_quality"]
