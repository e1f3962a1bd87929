"""Every technique of the registries: stated operations against those that the reference makes on a small operand.

A technique of a block quantizer is traced as what it adds to a plain one. Where trace and statement differ, ``BEYOND``
says by how many operations per element and per block, and why: what a kernel shares, does by one instruction, or does
in units of the scale. A technique without a row there has to agree to the last operation, and one that is in a registry
but in no test fails ``test_every_technique_is_counted``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dse.numerics import registry
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.linear_gemms import deviations
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key
from dse.numerics.techniques.branches import ThinFactors
from dse.numerics.techniques.decompositions import DECOMPOSITIONS
from dse.numerics.techniques.decompositions.base import DecodedOperands, Kept, SplitProduct, Term
from dse.numerics.techniques.post import PostOperands, PostTraining
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.schedules import Schedule
from dse.numerics.techniques.tensor_scales import Current
from dse.post.layers import PostQuantizedLinear, QuantizedWeight
from tests.cost.tracing import Tracer, traced

ROWS, COLUMNS, BLOCK = 64, 256, 16
M, K, N = 64, 160, 96
"""Tokens, inputs, outputs: a tenth and a twentieth of the inputs are whole channels."""
KEY = Key(torch.tensor([1, 2]), 3, 0)
PLAIN = BlockQuantizer(E2M1, UE4M3, BLOCK)
CASES: dict[str, dict[str, Any]] = {
    "rounding": {"family": registry.ROUNDINGS},
    "scale_rounding": {"family": registry.ROUNDINGS},
    "statistic": {"family": registry.STATISTICS},
    "convention": {"family": registry.CONVENTIONS},
    "tensor_scale": {"family": registry.TENSOR_SCALES},
    "outliers": {"family": registry.OUTLIERS},
    "choice": {"family": registry.CHOICES},
    "correction": {"family": registry.CORRECTIONS, "tensor_scale": Current(255.99)},
}
"""Option of a block quantizer -> the registry of its techniques, and what has to be set with them."""

DRAW = "drawn and added inside of the cast, which is one operation here; its parts: test_counted.py"
BEYOND: dict[str, tuple[float, float, str]] = {
    "rounding stochastic": (-6, 0, DRAW),
    "scale_rounding stochastic": (0, -6, DRAW),
    "statistic soft_soft": (26, 52, "exp and log by the reference's own polynomials, two operations in hardware"),
    "statistic quest": (-1, 1, "no maximum; mean and deviation share the squares; a guard against rounding below 0"),
    "convention encode": (0, 3, "guards: a scale of 0, an overflow of its inverse, and zero blocks"),
    "tensor_scale current": (0, 1, "a clamp of the scale"),
    "tensor_scale delayed": (0, 1.98, "measured in each step by the reference, one in 50 is stated; a clamp"),
    "tensor_scale outer": (0, 11, "the row's scale spread over its blocks, with guards"),
    "outliers clamp": (11, 0, "quantiles by sorting, NaN and infinities looked at"),
    "outliers asymmetric": (7, 3, "both signs by masks, NaN and infinities looked at"),
    "choice four_over_six": (1, 9, "a second decoding; a kernel compares in units of the scale"),
    "choice if4": (5, 11, "a second decoding; a kernel compares in units of the scale"),
    "choice grids": (1, 9, "a second decoding; a kernel compares in units of the scale"),
    "choice scale_sweep": (10, 160, "a decoding for each candidate, and candidates' guards"),
    "correction eden": (0, 4, "guards of scale and factor"),
    "slope straight_through": (4, 0, "skipped in a backward pass where it is 1 everywhere; called by itself it masks"),
    "slope dge": (8, 0, "the place in the grid by floating-point operations, where a kernel has code and interval"),
    "slope sigmoid": (7, 0, "the place in the grid by floating-point operations, where a kernel has code and interval"),
    "slope spline": (2, 0, "NaN looked at, and the place clamped"),
    "statistic slope absmax": (1, -3, "masks and counts of ties over elements, which a kernel counts by block"),
    "statistic slope hard_soft": (51, 46, "exp by the reference's own polynomial"),
    "statistic slope soft_soft": (51, 46, "exp by the reference's own polynomial"),
    "statistic slope quest": (3, 2, "the mean of squares again, which the forward pass has"),
    "weights q_ema": (12, 0, "two whole quantizations, where a kernel casts a scaled value to both neighbors"),
    "decomposition out_control lhs": (-1, 0, "channels gathered: moves, which count as one operation each"),
    "decomposition out_control rhs": (-1, 0, "channels gathered: moves, which count as one operation each"),
    "decomposition mean wgrad lhs": (1, 0, "the mean again, which is that of dgrad"),
    "decomposition mean wgrad rhs": (1, 0, "the mean again, which is that of fprop"),
    "decomposition hot_channels lhs": (-1, 0, "the operand decoded, which the reference's quantizer has done"),
    "decomposition hot_channels rhs": (-1, 0, "the operand decoded, which the reference's quantizer has done"),
}
"""What differs: operations per element and per block beyond those stated (at most), and why."""


def held(name: str, element: float, block: float = 0.0, tolerance: float = 1e-6) -> None:
    """``element`` and ``block`` beyond what is stated are those of ``BEYOND``."""
    expected = BEYOND.get(name, (0.0, 0.0, ""))
    assert element == pytest.approx(expected[0], abs=tolerance), name
    assert block == pytest.approx(expected[1], abs=tolerance), name


def operand(*sides: int) -> Tensor:
    return torch.randn(*sides, generator=torch.Generator().manual_seed(0))


def whole(tracer: Tracer, elements: int) -> float:
    """All operations per element of an operand, those of ever fewer elements (sums in trees) among them."""
    return sum(times * size for (_, size), times in tracer.counts.items()) / elements


def beyond(quantizer: BlockQuantizer) -> tuple[float, float]:
    """Traced operations minus stated ones of a quantizer, per element and per block."""
    x = operand(ROWS, COLUMNS)
    key = replace(KEY, memory=torch.zeros(6)) if quantizer.remembers else KEY
    with traced("cast") as tracer:
        quantizer(x, key)
    stated = [ops for _, ops in quantizer.ops()]
    element = tracer.per_element(x.numel()) - sum(ops.element for ops in stated)
    return element, tracer.per_block(x.numel() // BLOCK) - sum(ops.block for ops in stated)


@pytest.mark.parametrize(
    ("option", "name"), [(option, name) for option, case in CASES.items() for name in case["family"]]
)
def test_techniques_of_a_block(option: str, name: str) -> None:
    also = {key: value for key, value in CASES[option].items() if key != "family"}
    plain = replace(PLAIN, **also)
    element, block = beyond(replace(plain, **{option: CASES[option]["family"][name]()}))
    without = beyond(plain)
    held(f"{option} {name}", element - without[0], block - without[1])


@pytest.mark.parametrize("quantizer", [replace(PLAIN, block=0), replace(PLAIN, block=0, tile=0)], ids=["row", "tensor"])
def test_one_scale_for_a_row_or_a_tensor(quantizer: BlockQuantizer) -> None:
    assert beyond(quantizer)[0] == beyond(PLAIN)[0]


@pytest.mark.parametrize("name", registry.SLOPES)
def test_slopes(name: str) -> None:
    x, slope = operand(ROWS, COLUMNS), registry.SLOPES[name]()
    with traced("exp", "log") as tracer:
        slope(x, E2M1)
    held(f"slope {name}", tracer.per_element(x.numel()) - slope.ops().element)


@pytest.mark.parametrize("name", registry.STATISTICS)
def test_slopes_of_statistics(name: str) -> None:
    blocks = operand(ROWS, 1, COLUMNS // BLOCK, BLOCK)
    statistic = registry.STATISTICS[name]()
    z = statistic.value(blocks, (-1, -3))
    with traced() as tracer:
        statistic.slope(blocks, z, (-1, -3))
    stated, count = statistic.slope_ops(), blocks.numel() // BLOCK
    element = tracer.per_element(blocks.numel()) - stated.element
    held(f"statistic slope {name}", element, tracer.per_block(count) - stated.block)


def rule_work(rule: Any, step: int) -> float:
    """Operations per element of a weight rule in a step, beside one plain quantization."""
    w = operand(N, K).requires_grad_()
    w.grad = operand(N, K)
    state = rule.state(w.detach())
    state["steps"].fill_(step)
    with traced("cast") as plain:
        PLAIN(w.detach(), KEY)
    with traced("cast") as tracer:
        rule.quantize(PLAIN, w.detach(), state, KEY)
        rule.before_step(PLAIN, w, state, KEY)
        rule.after_step(PLAIN, w, state, KEY)
    return tracer.per_element(w.numel()) - plain.per_element(w.numel())


@pytest.mark.parametrize("name", registry.WEIGHT_RULES)
def test_weight_rules(name: str) -> None:
    """Rules that track: 12 to 19 beyond in tracked steps (two whole quantizations, masks), at most 4 in the others."""
    rule = registry.WEIGHT_RULES[name]()
    if not hasattr(rule, "track"):
        held(f"weights {name}", rule_work(rule, 0) - rule.ops().element)
        return
    share = rule.track / rule.every
    other = rule.ops().element - 14 * share
    start = getattr(rule, "start", 0)
    assert 12 <= rule_work(rule, start) - (other + 14) <= 19
    assert 0 <= rule_work(rule, start + rule.track + 1) - other <= 4


def split(name: str, gemm: str) -> tuple[Any, SplitProduct, tuple[Term, ...], Tracer, int, dict[str, Tensor]]:
    """A GEMM as a decomposition writes it: parts, terms, what it traced, and the products' operations."""
    method, x, w, g = DECOMPOSITIONS[name](), operand(M, K), operand(N, K), operand(M, N)
    state = method.state(w)
    for key in ("norms", "scores"):
        if key in state:
            state[key].copy_(torch.rand(K, generator=torch.Generator().manual_seed(1)) + 1)
    if "chosen" in state:
        state["chosen"].fill_(True)
    kept = Kept(state, KEY)
    a, b = {"fprop": (x, w), "dgrad": (g, w), "wgrad": (g, x)}[gemm]
    with traced() as tracer, FlopCounterMode(display=False) as counter:
        parts: SplitProduct = getattr(method, gemm)(a, b, kept)
    decoded = DecodedOperands(Quantized(parts.lhs.float()), Quantized(parts.rhs.float()), lambda rows: rows, 0)
    with traced() as late, FlopCounterMode(display=False) as later:
        terms = parts.terms + (method.corrections(gemm, parts, decoded, kept) if method.corrects else ())
    for (what, size), times in late.counts.items():
        tracer.counts[f"late {what}", size] += times
    return method, parts, terms, tracer, counter.get_total_flops() + later.get_total_flops(), {"lhs": a, "rhs": b}


SPLITS = [(name, gemm) for name, cls in DECOMPOSITIONS.items() for gemm in cls.splits]


@pytest.mark.parametrize(("name", "gemm"), SPLITS)
def test_products_of_decompositions(name: str, gemm: str) -> None:
    """Floating-point operations of terms, as they are multiplied, are those stated; columns of ones are added."""
    method, parts, terms, _, made, _ = split(name, gemm)
    rows = parts.lhs.shape[-2]
    added = sum(2 * rows * term.right.shape[-2] * term.right.shape[-1] for term in terms if term.left is not None)
    share, _ = method.wider(gemm)
    stated = method.term_flop(gemm, M, K, N) + share * 2 * M * N * K
    assert made + added == pytest.approx(stated)


@pytest.mark.parametrize(("name", "gemm"), SPLITS)
def test_operations_of_decompositions(name: str, gemm: str) -> None:
    """Additions and subtractions over the tensors that a GEMM is split from, in whole passes.

    K has the factor 5 and N the factor 3, which tell X, W and G apart, whatever part of a sum's tree it is.
    """
    method, _, _, tracer, _, tensors = split(name, gemm)
    for side in ("lhs", "rhs"):
        if (stated := method.point_ops(f"{gemm}.{side}")) is None:
            continue
        size = tensors[side].numel()
        done = ((n * of, of) for (what, of), n in tracer.counts.items() if what in ("sub", "add", "late sub"))
        own = sum(n for n, of in done if all((of % factor == 0) == (size % factor == 0) for factor in (3, 5)))
        label = f"{name} {gemm} {side}" if gemm == "wgrad" else f"{name} {side}"
        held(f"decomposition {label}", round(own / size, 1) - stated.element)


def test_schedules() -> None:
    """Two deviations of G for the one that watches noise; the others look at nothing."""
    g = operand(M, N)
    quantized = PLAIN(g, KEY)
    with traced() as tracer:
        deviations(g, quantized)
    watching = [name for name, cls in registry.SCHEDULES.items() if cls.ops is not Schedule.ops and _made(cls).watches]
    assert watching == ["noise_switch"]
    assert registry.SCHEDULES["noise_switch"]().ops().element == pytest.approx(whole(tracer, g.numel()), abs=0.01)
    for name, cls in registry.SCHEDULES.items():
        if name not in watching:
            assert (_made(cls).ops().element, _made(cls).watches) == (0, False)


def _made(cls: Any) -> Any:
    return cls()


@pytest.mark.parametrize("balance", [None, *registry.BALANCES])
@pytest.mark.parametrize("name", registry.POST_TRAINING)
def test_methods_after_training(name: str, balance: str | None) -> None:
    """At inference a method costs what its balance does: its work on the weights is done once."""
    method: PostTraining = registry.POST_TRAINING[name](balance=registry.BALANCES[balance]() if balance else None)
    gemm, x, plain = Gemm(PLAIN, PLAIN), operand(M, K), torch.nn.Linear(K, N, bias=False)
    factors = torch.full((K,), 2.0) if balance else None
    made = QuantizedWeight(PostOperands(PLAIN(plain.weight.detach(), KEY)), factors, None)
    layer = PostQuantizedLinear(plain, made, gemm, KEY)
    with traced("cast") as tracer:
        layer(x)
    with traced("cast") as alone:
        PLAIN(x, KEY)
    added = tracer.per_element(x.numel()) - alone.per_element(x.numel())
    assert added == method.ops().element == (1 if balance else 0)


@pytest.mark.parametrize("name", registry.BRANCHES)
def test_branches(name: str) -> None:
    """Two thin products, whose operations are stated, and one addition per output."""
    branch, plain = registry.BRANCHES[name](), torch.nn.Linear(K, N, bias=False)
    thin = ThinFactors.of(operand(N, branch.rank), operand(branch.rank, K))
    work: list[tuple[int, float]] = []
    for low_rank in (None, thin):
        made = QuantizedWeight(PostOperands(PLAIN(plain.weight.detach(), KEY), low_rank=low_rank), None, None)
        layer = PostQuantizedLinear(plain, made, Gemm(PLAIN, PLAIN), KEY)
        with traced("cast") as tracer, FlopCounterMode(display=False) as counter:
            layer(operand(M, K))
        work.append((counter.get_total_flops(), sum(n for (_, size), n in tracer.counts.items() if size == M * N)))
    (flop, outputs), (with_flop, with_outputs) = work
    assert with_flop - flop == branch.flop(M, K, N)
    assert with_outputs - outputs == branch.ops().output


def test_what_is_done_on_the_matrix_unit_or_once() -> None:
    """Accumulation in groups is the matrix unit's own, and searches of scales are over before the first inference."""
    assert all(cls().ops().element == 0 for cls in registry.ACCUMULATIONS.values())
    assert all(cls().ops().element == 0 for cls in registry.SCALE_SEARCHES.values())


def test_every_technique_is_counted() -> None:
    """Each registry of techniques has a test here, or (rotations, formats, quantizers) in test_counted.py."""
    here = {
        *(id(case["family"]) for case in CASES.values()),
        *map(id, (registry.SLOPES, registry.WEIGHT_RULES, registry.DECOMPOSITIONS, registry.SCHEDULES)),
        *map(
            id,
            (
                registry.POST_TRAINING,
                registry.BRANCHES,
                registry.BALANCES,
                registry.ACCUMULATIONS,
                registry.SCALE_SEARCHES,
            ),
        ),
    }
    elsewhere = {id(registry.ROTATIONS), id(registry.QUANTIZERS)}
    missing = [cls.__name__ for cls, family in registry.FAMILIES.items() if id(family) not in here | elsewhere]
    assert not missing
    assert list(registry.ROTATIONS.values()) == [Hadamard]
    names = {f"{option} {name}" for option, case in CASES.items() for name in case["family"]}
    names |= {f"slope {name}" for name in registry.SLOPES} | {f"weights {name}" for name in registry.WEIGHT_RULES}
    names |= {f"statistic slope {name}" for name in registry.STATISTICS}
    stale = {name for name in BEYOND if not name.startswith("decomposition")} - names
    assert not stale
