"""Linears that take one X quantize it once where that gives the same bits, and save no more than backward needs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import Point
from dse.numerics.random import Key
from dse.numerics.recipe import override
from dse.pack.backend import uses
from dse.pack.operand_programs import ReferencePoint, TwoOperands
from dse.pack.segmentation import partition
from dse.pack.shared_operands import Both, SharedOperands
from dse.recipes import RECIPES
from tests.interpreted import interpreted


def programs(name: str, *, repeats: bool = True) -> TwoOperands:
    own = uses(RECIPES[name])
    rows, columns = (ReferencePoint(p, own[p]) for p in (Point.FPROP_LHS, Point.WGRAD_RHS))
    return TwoOperands(rows, columns, (torch.float32, torch.float32), repeats=repeats)


class Counted:
    """Quantizes X and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def take(self, shared: SharedOperands, x: Tensor, of: TwoOperands, both: bool = True) -> Both:
        def compute() -> Both:
            self.calls += 1
            context = LinearContext(Key(torch.zeros(len(x), 2, dtype=torch.int64)))
            return Both(*of.both(x, context)) if both else Both(of.first(x, context), None)

        return shared.take(slice(0, len(x)), x, of, both, compute)


def test_the_same_tensor_under_the_same_programs() -> None:
    shared, count, x = SharedOperands(), Counted(), torch.randn(2, 32, 48)
    first = count.take(shared, x, programs("nvfp4"))
    assert count.take(shared, x.view(2, 32, 48), programs("nvfp4")) is first
    assert count.calls == 1
    assert count.take(shared, x, programs("nvfp4"), both=False) is first
    assert count.calls == 1


def test_what_is_not_the_same() -> None:
    shared, count, x = SharedOperands(), Counted(), torch.randn(2, 32, 48)
    count.take(shared, x, programs("nvfp4"), both=False)
    count.take(shared, x, programs("nvfp4"))  # the transposed operand was missing
    count.take(shared, x, programs("mxfp4"))
    count.take(shared, x.clone(), programs("mxfp4"))
    count.take(shared, x, programs("mxfp4"))
    x.add_(1)
    changed = count.take(shared, x, programs("mxfp4"))
    assert count.calls == 6
    shared.clear()
    again = count.take(shared, x, programs("mxfp4"))
    assert count.calls == 7
    assert torch.equal(changed.first.values, again.first.values)
    count.take(shared, x, programs("mxfp4", repeats=False))
    count.take(shared, x, programs("mxfp4", repeats=False))
    assert count.calls == 9


def test_an_address_is_not_taken_again() -> None:
    shared, count = SharedOperands(), Counted()
    for _ in range(20):
        x = torch.randn(2, 32, 48)
        found = count.take(shared, x, programs("mxfp4"))
        assert torch.equal(found.first.values, uses(RECIPES["mxfp4"])[0].quantizer(x).values)
        del x
    assert count.calls == 20


@pytest.mark.parametrize(
    ("path", "value"),
    [("X.rounding", "stochastic"), ("X.tensor_scale", {"delayed": {"every": 2}}), ("fprop.rotation", "hadamard")],
)
def test_what_layers_draw_or_hold_is_their_own(path: str, value: object) -> None:
    pytest.importorskip("triton")
    plain, own = (RECIPES["nvfp4"], override(RECIPES["nvfp4"], path, value))
    for recipe, expected in ((plain, True), (own, False)):
        (segment,) = partition([recipe], [None], torch.device("cpu"), use_kernels=True)
        assert segment.x.repeats == expected  # type: ignore[attr-defined]


LAYERS = """
import torch
from dse.pack import partition
from dse.pack.layer import PackLayer
from dse.pack.linear import _Stacked
from dse.pack.shared_operands import SharedOperands
from dse import fused
from dse.pack import operand_programs
from tests.pack.segment_cases import gallery

E, M, N, K = 2, 64, 32, 48
launches = []
both = fused.quantize_both
fused.quantize_both = lambda *args: launches.append(args[0]) or both(*args)
g = torch.Generator().manual_seed(1)
x, w, dy = (torch.randn(E, *s, generator=g) for s in ((M, K), (N, K), (M, N)))
clock = torch.tensor([[i, 3] for i in range(E)])
recipe = gallery()["nvfp4"]
results, saved = [], []
for shared in (None, SharedOperands()):
    kept = {}
    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    leaf, weights = x.bfloat16().requires_grad_(), [(w + i).requires_grad_() for i in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        total = 0
        for i, weight in enumerate(weights):
            layer = PackLayer([recipe] * E, weight.detach(), clock, i, True)
            layer.shared = shared
            total = total + _Stacked.apply(leaf, weight, None, layer)
    results.append((total.detach(), *torch.autograd.grad(total, (leaf, *weights), dy.bfloat16())))
    launches_of_x = sum(t.shape == leaf.shape and t.dtype == leaf.dtype for t in launches)
    saved.append((launches_of_x, sum(n for n in kept.values() if n > 64)))
    launches.clear()
assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
# transposed copies in BF16: of X once for all layers, of every W; scales aside
assert saved == [(3, 2 * E * (3 * K * M + 3 * N * K)), (1, 2 * E * (K * M + 3 * N * K))], saved
print("done")
"""


def test_layers_of_one_input() -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", LAYERS) == "done"
