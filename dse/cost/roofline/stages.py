"""The kernels that quantize a layer's operands, and how they fuse.

Every quantization point has up to two passes over its operand. A tensor-wide amax comes first where the recipe has a
tensor scale of the tensor at hand (a rotated operand is rotated for it); the quantization reads the operand and writes
codes and scales. How they are joined:

=========  ===========================================================================================================
separate   every pass is a kernel that reads the operand from memory: what libraries do that quantize operand by operand
paired     both uses of a tensor are made from one read, in one kernel for each pass
fused      passes ride in the epilogue of the kernel that made the tensor, where its values are at hand: an amax always,
           a quantization where it need not wait for a tensor-wide value. Codes are written; nothing is read. With a
           tensor scale the amax is a reduction over the whole grid, and the quantization reads the tensor again
=========  ===========================================================================================================

Gradients through a quantizer read X and the gradient and write it again; fused, they ride in the epilogue of the
backward GEMM and read X. Factors per output are in the GEMM's epilogue everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from dse.cost.overhead import OUTPUT, READ_BYTES
from dse.cost.point_counts import blocks, techniques
from dse.cost.profiles import Profile
from dse.cost.roofline.codes import code_bytes
from dse.cost.roofline.instructions import on_hardware
from dse.cost.roofline.work import Work
from dse.cost.shapes import LayerShape
from dse.cost.sharing import FIRST, TENSORS, codes_from, counted
from dse.numerics.block import BlockQuantizer
from dse.numerics.ops import Ops
from dse.numerics.recipe import Recipe

GRADIENTS = ("element slope", "scale gradient", "scale slope", "tensor scale gradient", "rotation of gradient")
RULES = ("weight rule", "schedule")


class Fusion(StrEnum):
    """How far passes are joined."""

    SEPARATE = "separate"
    PAIRED = "paired"
    FUSED = "fused"


@dataclass(frozen=True)
class Stage:
    """Work of one kind at a quantization point. ``hidden``: in another kernel's epilogue, beside its products."""

    what: str
    work: Work
    hidden: bool = False


@dataclass(frozen=True)
class _Point:
    """A quantization point of a layer on hardware."""

    recipe: Recipe
    shape: LayerShape
    profile: Profile
    name: str
    emulated: bool

    @property
    def elements(self) -> int:
        return self.shape.size(TENSORS[self.name])

    @property
    def blocks(self) -> int:
        return blocks(self.shape, self.name, self.recipe.quantizer(self.name))[0]

    @property
    def codes(self) -> float:
        """Bytes of the quantized operand: codes and scales, or decoded BF16 where the products are emulated."""
        quantizer = self.recipe.quantizer(self.name)
        assert isinstance(quantizer, BlockQuantizer)
        if self.emulated:
            return READ_BYTES * self.elements
        return code_bytes(quantizer, self.elements, self.blocks)

    def total(self, names: tuple[str, ...] | None) -> Ops:
        """The operations of these techniques, or (None) of those that quantize, on this hardware."""
        own = Ops()
        for technique, ops in techniques(self.recipe, self.name):
            ours = technique in names if names is not None else technique not in (*GRADIENTS, *RULES)
            if ours and technique != "rotation":
                own = own + on_hardware(technique, counted(self.recipe, self.name, ops)[0], self.profile)
        return own

    def operations(self, ops: Ops) -> Work:
        n, count = self.elements, self.blocks
        outputs = self.shape.size(OUTPUT[self.name.split(".")[0]])
        vector = ops.element * n + ops.block * count + ops.output * outputs
        return Work(vector=vector, random_bits=ops.random_bits * n + ops.block_bits * count)

    def turned(self) -> Work:
        """The rotation of the operand, on the unit that is faster."""
        gemm = getattr(self.recipe, self.name.split(".")[0])
        if gemm.rotation is None:
            return Work()
        ops = gemm.rotation.ops()
        dense = ops.matrix / self.profile.peak(16) < 2 * ops.element / self.profile.vector.value
        return Work(matrix=ops.matrix * self.elements) if dense else Work(vector=ops.element * self.elements)


def stages(
    recipe: Recipe, shape: LayerShape, profile: Profile, point: str, how: tuple[Fusion, bool] = (Fusion.SEPARATE, False)
) -> list[Stage]:
    """The work at a quantization point beside the GEMM. ``how``: fusion, and whether the GEMM's units are emulated.

    Nothing for an operand that is not quantized into blocks, and nothing but epilogue factors where the codes are those
    of the tensor's first use.
    """
    fusion, emulated = how
    if not isinstance(recipe.quantizer(point), BlockQuantizer):
        return []
    own = _Point(recipe, shape, profile, point, emulated)
    if codes_from(recipe, point):
        return [Stage("quantization", own.operations(own.total(None)), hidden=True)]
    again = fusion != Fusion.SEPARATE and _second(recipe, point)
    return [*_passes(own, fusion, again), *_gradients(own, fusion), *_rules(own)]


def _second(recipe: Recipe, point: str) -> bool:
    """Whether the other use of the tensor has read it already."""
    first = FIRST.get(point)
    if first is None or (recipe.backward_source == "forward" and TENSORS[point] != "G"):
        return False
    return isinstance(recipe.quantizer(first), BlockQuantizer)


def _passes(own: _Point, fusion: Fusion, again: bool) -> list[Stage]:
    ops, n, fused = own.total(None), own.elements, fusion == Fusion.FUSED
    share = min(ops.reads, 1.0)  # of the steps in which the tensor is measured first
    found = []
    if ops.reads:
        measured = own.operations(Ops(element=2 * ops.reads)) + own.turned() * ops.reads
        loads = 0.0 if fused or again else READ_BYTES * n * ops.reads
        launches = 0.0 if fused or again else ops.reads
        amax = measured + Work(read=loads, passes=0 if fused else ops.reads, syncs=ops.syncs, launches=launches)
        found.append(Stage("maxima", amax, hidden=fused))
    waits = share if fused else 1.0
    loads = 0.0 if again else READ_BYTES * n * waits
    reread = loads * share
    made = own.operations(ops) + own.turned()
    moved = Work(read=loads - reread, reread=reread, written=own.codes, passes=waits, launches=0.0 if again else waits)
    if fused and share < 1:
        return [*found, Stage("quantization", made, hidden=True), Stage("quantization", moved)]
    return [*found, Stage("quantization", made + moved)]


def _gradients(own: _Point, fusion: Fusion) -> list[Stage]:
    """What dX and dW pass on their way back through the forward quantizers."""
    ops = own.total(GRADIENTS)
    if ops == replace(Ops(), why=ops.why):
        return []
    n, fused = own.elements, fusion == Fusion.FUSED
    work = own.operations(ops) + Work(syncs=ops.syncs)
    if fused:
        return [Stage("gradients", work, hidden=True), Stage("gradients", Work(read=READ_BYTES * n))]
    return [Stage("gradients", work + Work(read=2 * READ_BYTES * n, written=READ_BYTES * n, passes=2, launches=1))]


def _rules(own: _Point) -> list[Stage]:
    """Weight rules read and write their state in FP32, beside the optimizer; a schedule reads the gradient."""
    ops = own.total(RULES)
    if ops == replace(Ops(), why=ops.why):
        return []
    n = own.elements
    if TENSORS[own.name] == "W":
        state = 4 * n * (ops.reads or 2)
        moved = Work(read=state / 2, written=state / 2)
    else:
        moved = Work(read=READ_BYTES * n, launches=1, syncs=ops.syncs)
    return [Stage("rules", own.operations(ops) + moved)]


__all__ = ["Fusion", "Stage", "stages"]
