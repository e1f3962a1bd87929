"""The cost of a recipe: its operation counts per GEMM, operand and technique, and summed over a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from dse.cost.hardware import B200, Hardware
from dse.cost.point_counts import SYMBOLS, blocks, techniques
from dse.cost.ruled_shapes import core_by_layer
from dse.cost.shapes import LLAMA3_8B, LayerShape, products
from dse.cost.sharing import TENSORS, counted
from dse.cost.storage import by_format, deployed_layers
from dse.cost.training_phases import training_phases
from dse.nn.attention import as_linear
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.ops import Ops
from dse.numerics.quantizer import BFloat16, Quantizer
from dse.numerics.recipe import GEMMS, POINTS, Recipe
from dse.numerics.recipe_fields import quantizes
from dse.numerics.techniques.post import Rtn

READ_BYTES = 2
"""Bytes per element of a tensor that is read again: activations, gradients and working weights are kept in BF16."""

OUTPUT = {"fprop": "G", "dgrad": "X", "wgrad": "W"}
"""The tensor that has the size of each GEMM's output: Y has G's, dX has X's, dW has W's."""


@dataclass(frozen=True)
class CostRow:
    """The cost of one technique at one quantization point of one layer, in one training step.

    - ``formula``: the count in symbols (M tokens, K inputs, N outputs); ``why``: in words, from the technique itself;
    - ``note``: what is counted elsewhere, because a kernel does it once for two GEMMs (``dse.cost.sharing``);
    - ``vector``, ``matrix``: operations on the vector units and on the matrix unit; ``random_bits``: bits drawn;
    - ``read_bytes``: extra passes over the operand; ``syncs``: grid-wide dependencies;
    - ``percent``: time of the operations as a share of the layer's three GEMMs (after training: of one) at the FP4
      rate, nothing overlapped.
    """

    gemm: str
    operand: str
    technique: str
    formula: str
    why: str
    note: str
    vector: float
    matrix: float
    random_bits: float
    read_bytes: float
    syncs: float
    percent: float


def points_of(recipe: Recipe) -> tuple[str, ...]:
    """The points at work: all six in training; X of the forward GEMM after training, where W is quantized once."""
    return POINTS if recipe.post is None else POINTS[:1]


def gemms_of(recipe: Recipe) -> tuple[str, ...]:
    """The GEMMs at work: three in training, the forward one after it."""
    return GEMMS if recipe.post is None else GEMMS[:1]


def breakdown(recipe: Recipe, layer: LayerShape, hardware: Hardware = B200) -> list[CostRow]:
    """A row per (GEMM, operand, technique), in the order of the six points; a rotation stands before its operands.

    With a post-training method the counts, and the GEMMs that they are compared with, are those of inference. With a
    schedule they are those before it changes anything; ``training_phases`` has the recipes of what follows.
    """
    rows = []
    for point in points_of(recipe):
        for name, ops in techniques(recipe, point):
            rows.append(_row(recipe, layer, hardware, point, name, ops))
        rows += _terms(recipe, layer, hardware, point)
    return rows


def overhead(
    recipe: Recipe,
    layers: Iterable[LayerShape] = LLAMA3_8B,
    hardware: Hardware = B200,
    shares: Sequence[float] = (),
) -> float:
    """Time of all extra operations in percent of the FP4 GEMM time, over all layers of a model; 0 for bf16 and fp32.

    ``shares``: as for ``relative_time``.
    """
    return _mean(recipe, layers, hardware, lambda total: 100 * total.extra / total.gemm(hardware.fp4), shares)


def by_technique(
    recipe: Recipe, layers: Iterable[LayerShape] = LLAMA3_8B, hardware: Hardware = B200
) -> dict[str, float]:
    """What each technique adds to ``overhead``, in its unit; the values sum to it."""
    shapes, found = tuple(layers), dict[str, float]()
    for one in training_phases(recipe):
        total = _Total(one.recipe, shapes, hardware)
        unit = 100 * one.share / total.gemm(hardware.fp4)
        for count, row in total.rows():
            found[row.technique] = found.get(row.technique, 0.0) + unit * count * total.seconds(row)
    return found


def relative_time(
    recipe: Recipe,
    layers: Iterable[LayerShape] = LLAMA3_8B,
    hardware: Hardware = B200,
    shares: Sequence[float] = (),
) -> float:
    """Time of the three GEMMs and the extra operations, BF16 = 1: the axis for recipes of different widths.

    A GEMM runs at the rate of its wider operand. Scale formats and block sizes are taken as native to the matrix unit.
    ``shares``: of the weights that a search of formats gave each of its formats where it ran; without them its budget
    decides (``dse.cost.storage.by_format``).
    """

    def measure(total: _Total) -> float:
        return (total.own_gemm + total.extra) / total.gemm(hardware.bf16)

    return _mean(recipe, layers, hardware, measure, shares)


def excess(recipe: Recipe, layers: Iterable[LayerShape] = LLAMA3_8B, hardware: Hardware = B200) -> float:
    """Percent over three bare FP4 GEMMs, a GEMM's own lower rate included: 100 for an MXFP8 whose casts were free."""

    def measure(total: _Total) -> float:
        return 100 * ((total.own_gemm + total.extra) / total.gemm(hardware.fp4) - 1)

    return _mean(recipe, layers, hardware, measure)


def read_time(recipe: Recipe, layers: Iterable[LayerShape] = LLAMA3_8B, hardware: Hardware = B200) -> float:
    """Time of the extra passes over operands at full memory bandwidth, in percent of the FP4 GEMM time.

    Not part of the other numbers: caches and overlap can hide some of it, operation counts none.
    """

    def measure(total: _Total) -> float:
        return 100 * total.read_bytes / hardware.bandwidth / total.gemm(hardware.fp4)

    return _mean(recipe, layers, hardware, measure)


def _mean(
    recipe: Recipe,
    layers: Iterable[LayerShape],
    hardware: Hardware,
    measure: Callable[[_Total], float],
    shares: Sequence[float] = (),
) -> float:
    """A measure in the mean over the steps of a training, in which schedules change the numerics."""
    shapes, own = tuple(layers), tuple(shares)
    return sum(one.share * measure(_Total(one.recipe, shapes, hardware, own)) for one in training_phases(recipe))


def mean_bits(recipe: Recipe, layers: Iterable[LayerShape] = LLAMA3_8B, shares: Sequence[float] = ()) -> float:
    """Width of the wider operand in the mean over the linears' GEMM operations, and over the steps of a training.

    4 where every product has two operands of FP4, 16 under ``bf16``; after training that of the forward GEMM.
    ``shares``: as for ``relative_time``.
    """
    return _mean(recipe, layers, B200, lambda total: total.bits, shares)


def operand_bits(quantizer: Quantizer) -> int:
    """Width that the matrix unit sees: the element's for blocks, 16 for BF16, 32 for what is not quantized."""
    if isinstance(quantizer, BlockQuantizer):
        return quantizer.element.bits
    return 16 if isinstance(quantizer, BFloat16) else 32


@dataclass(frozen=True)
class _Total:
    """Seconds and bytes over all layers of a model; attention's, where its products are quantized, come on top."""

    recipe: Recipe
    layers: Sequence[LayerShape]
    hardware: Hardware
    shares: Sequence[float] = ()

    def gemm(self, rate: float) -> float:
        """All GEMMs of all linears at one rate."""
        return sum(len(gemms_of(self.recipe)) * layer.flop * layer.count for layer in self.layers) / rate

    @property
    def own_gemm(self) -> float:
        """The GEMMs at the rate of the recipe's operands; of attention's, what they take longer than in BF16."""
        linears = sum(count * self._gemms(own, layer) for own, layer, count in self._linears)
        slack = [
            count * (self._gemms(owner, layer) - len(gemms_of(owner)) * layer.flop / self.hardware.bf16)
            for owner, layer, count in self._attention
        ]
        return linears + sum(slack)

    @property
    def bits(self) -> float:
        """The mean over the linears' operations."""
        found = [
            (count * layer.flop * share, bits) for own, layer, count in self._linears for share, bits in _widths(own)
        ]
        return sum(flop * bits for flop, bits in found) / sum(flop for flop, _ in found)

    @property
    def extra(self) -> float:
        return sum(count * self.seconds(row) for count, row in self.rows())

    @property
    def read_bytes(self) -> float:
        return sum(count * row.read_bytes for count, row in self.rows())

    def seconds(self, row: CostRow) -> float:
        """Time of a row's operations."""
        return row.vector / self.hardware.vector + row.matrix / self.hardware.bf16

    def rows(self) -> Iterator[tuple[float, CostRow]]:
        """How often each row of ``breakdown`` is in the model."""
        for owner, layer, count in (*self._linears, *self._attention):
            yield from ((count, row) for row in breakdown(owner, layer, self.hardware))

    @property
    def _linears(self) -> list[tuple[Recipe, LayerShape, float]]:
        return [
            (one, layer, count)
            for own, layer in deployed_layers(self.recipe, self.layers, self.shares)
            for one, count in by_format(own, layer, self.shares)
        ]

    @property
    def _attention(self) -> list[tuple[Recipe, LayerShape, float]]:
        after = None if self.recipe.post is None else Rtn()  # without what methods do to weights
        return [(replace(own, post=after), layer, layer.count) for own, layer in attention(self.recipe, self.layers)]

    def _gemms(self, recipe: Recipe, layer: LayerShape) -> float:
        return sum(layer.flop * share / self.hardware.rate(bits) for share, bits in _widths(recipe))


def _widths(recipe: Recipe) -> Iterator[tuple[float, int]]:
    """Shares of the three GEMMs, and the width of their wider operand: a decomposition may take a share from one."""
    for name in gemms_of(recipe):
        gemm: Gemm = getattr(recipe, name)
        own = recipe.decomposition if quantizes(gemm) else None
        share, bits = (0.0, 16) if own is None else own.wider(name)
        yield 1 - share, max(operand_bits(gemm.lhs), operand_bits(gemm.rhs))
        yield share, bits


def attention(recipe: Recipe, layers: Sequence[LayerShape]) -> list[tuple[Recipe, LayerShape]]:
    """The products of attention that a recipe quantizes, as linears: their numerics and their shapes in a model."""
    if not any(own.attention for own in recipe.numerics):
        return []
    return [
        (as_linear(getattr(own.attention, name)), layer)
        for name, product in products(tuple(layers)).items()
        for own, layer in core_by_layer(recipe, product, layers)
        if own.attention is not None
    ]


def _terms(recipe: Recipe, layer: LayerShape, hardware: Hardware, point: str) -> Iterator[CostRow]:
    """The products of a decomposition's terms and of a branch, at the left operand of their GEMM."""
    (gemm, side), own = point.split("."), recipe.decomposition
    if recipe.post is not None and recipe.post.branch is not None:
        flop = recipe.post.branch.flop(layer.tokens, layer.inputs, layer.outputs)
        percent = 100 * flop / hardware.bf16 / (layer.flop / hardware.fp4)
        why = "two thin products with BF16 factors"
        yield CostRow(gemm, "X", "low-rank branch", f"{flop:.3g} (matrix unit)", why, "", 0, flop, 0, 0, 0, percent)
    if own is None or side != "lhs" or not quantizes(getattr(recipe, gemm)):
        return
    flop = own.term_flop(gemm, layer.tokens, layer.inputs, layer.outputs)
    if flop:
        percent = 100 * flop / hardware.bf16 / (len(gemms_of(recipe)) * layer.flop / hardware.fp4)
        formula, why = f"{flop:.3g} (matrix unit)", "products of the terms, in BF16"
        yield CostRow(gemm, TENSORS[point], "decomposition terms", formula, why, "", 0, flop, 0, 0, 0, percent)


def _row(recipe: Recipe, layer: LayerShape, hardware: Hardware, point: str, technique: str, ops: Ops) -> CostRow:
    """Counts of one technique, without work that another point shares. Where it states vector and matrix operations,
    they are two ways to do the same work: the faster one counts (the vector units', on hardware without dense
    transforms)."""
    ops, note = (ops, "") if technique == "rotation" else counted(recipe, point, ops)
    tensor, gemm = TENSORS[point], point.split(".")[0]
    n, outputs = layer.size(tensor), layer.size(OUTPUT[gemm])
    count, block_symbol = blocks(layer, point, recipe.quantizer(point))
    vector = ops.element * n + ops.block * count + ops.output * outputs
    matrix = ops.matrix * n
    on_matrix = matrix > 0 and (
        not vector or (hardware.dense_transforms and matrix / hardware.bf16 < vector / hardware.vector)
    )
    vector, matrix = (0.0, matrix) if on_matrix else (vector, 0.0)
    symbol, bare = SYMBOLS[tensor], len(gemms_of(recipe)) * layer.flop / hardware.fp4
    terms = [(ops.element, symbol), (ops.block, block_symbol), (ops.output, SYMBOLS[OUTPUT[gemm]])]
    formula = " + ".join(f"{times:g} {size}".rstrip() for times, size in terms if times) or "0"
    return CostRow(
        gemm=gemm,
        operand=tensor,
        technique=technique,
        formula=f"{ops.matrix:g} {symbol} (matrix unit)" if on_matrix else formula,
        why=ops.why,
        note=note,
        vector=vector,
        matrix=matrix,
        random_bits=ops.random_bits * n + ops.block_bits * count,
        read_bytes=ops.reads * n * READ_BYTES,
        syncs=ops.syncs,
        percent=100 * (vector / hardware.vector + matrix / hardware.bf16) / bare,
    )
