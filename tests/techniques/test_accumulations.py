"""Accumulation in groups against exact rational arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.quantize import quantize_, set_clock
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, UE4M3, UE5M3
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import Recipe, override
from dse.numerics.registry import from_data, to_data
from dse.numerics.techniques.accumulations import ACCUMULATIONS, Groups
from dse.numerics.techniques.accumulations.groups import add_toward_zero, exact_in_float64
from dse.numerics.techniques.rounding import TowardZero
from dse.numerics.techniques.tensor_scales import Current
from dse.recipes import RECIPES

SEED = 20262
LARGEST = Fraction(float(torch.finfo(torch.float32).max))


def normal(*shape: int, seed: int = SEED) -> Tensor:
    print("seed", seed)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------- FP32 rounding of an exact fraction
def spacing(x: Fraction) -> Fraction:
    """The distance between FP32 numbers at x > 0, with gradual underflow."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > x
    return Fraction(2) ** (max(exponent, -126) - 23)


def below(x: Fraction) -> Fraction:
    """The largest FP32 magnitude that is at most x > 0 (saturating)."""
    return min(x // spacing(x) * spacing(x), LARGEST)


def toward_zero(x: Fraction) -> Fraction:
    return below(x) if x > 0 else -below(-x) if x < 0 else Fraction(0)


def nearest_even(x: Fraction) -> Fraction:
    """Finite results only."""
    if x == 0:
        return x
    lo, step = below(abs(x)), spacing(abs(x))
    over = abs(x) - lo
    up = over > step / 2 or (over == step / 2 and lo / step % 2 == 1)
    return (1 if x > 0 else -1) * (lo + step * up)


def exact(v: float) -> Fraction:
    return Fraction(v)


def pairs() -> list[tuple[float, float]]:
    """FP32 numbers and what may be awkward to add to them."""
    print("seed", SEED)
    draw = random.Random(SEED)
    out: list[tuple[float, float]] = []
    for _ in range(1500):
        c = float(np.float32(draw.choice([-1, 1]) * draw.uniform(1, 2) * 2.0 ** draw.randint(-30, 30)))
        p = float(np.float32(draw.choice([-1, 1]) * draw.uniform(1, 2) * 2.0 ** draw.randint(-60, 30)))
        out.append((c, p))
        out.append((c, float(np.float32(-c * (1 + draw.choice([-1, 1]) * 2.0 ** -draw.randint(1, 23))))))
    powers = [2.0**e for e in (-149, -140, -126, -125, -24, -1, 0, 1, 23, 24, 25, 127)]
    near = [float(np.nextafter(np.float32(v), np.float32(d))) for v in powers[2:-1] for d in (0, np.inf)]
    values = [0.0, *powers, *near, float(LARGEST)]
    signed = [s * v for v in values for s in (1, -1)]
    return out + [(c, p) for c in signed for p in signed]


def test_adding_toward_zero_is_exact() -> None:
    tried = pairs()
    c, p = (torch.tensor(column, dtype=torch.float32) for column in zip(*tried, strict=True))
    got = add_toward_zero(c, p).tolist()
    wrong = [(x, y, g) for (x, y), g in zip(tried, got, strict=True) if toward_zero(exact(x) + exact(y)) != Fraction(g)]
    assert not wrong
    rounded_up = [g != s for g, s in zip(got, (c + p).tolist(), strict=True)]
    assert sum(rounded_up) > 800  # plain addition would be wrong


def test_adding_toward_zero_in_double_precision() -> None:
    """The same steps on float64, against NumPy's extended precision where the machine has it."""
    c, p = normal(2000).double(), normal(2000, seed=SEED + 1).double() * 2.0**-20
    got = add_toward_zero(c, p)
    for x, y, g in zip(c.tolist(), p.tolist(), got.tolist(), strict=True):
        total = exact(x) + exact(y)
        assert abs(exact(g)) <= abs(total)
        assert abs(exact(float(np.nextafter(g, np.copysign(np.inf, g))))) > abs(total)


def test_special_values_when_adding_toward_zero() -> None:
    inf, nan, top = torch.inf, torch.nan, float(LARGEST)
    c = torch.tensor([inf, inf, nan, 1.0, top, -top, 0.0, -0.0, 1.0])
    p = torch.tensor([1.0, -inf, 1.0, -inf, top, -top, -0.0, -0.0, -1.0])
    got = add_toward_zero(c, p)
    assert torch.equal(got.nan_to_num(7.0, inf, -inf), torch.tensor([inf, 7.0, 7.0, -inf, top, -top, 0.0, -0.0, 0.0]))
    assert got.signbit().tolist() == [False, got[1].signbit().item(), False, True, False, True, False, True, False]


# ----------------------------------------------------------------------------------------------------- the product
def scalar_product(a: list[float], b: list[float], how: Groups) -> Fraction:
    c = Fraction(0)
    for i in range(0, len(a), how.size):
        group = zip(a[i : i + how.size], b[i : i + how.size], strict=True)
        p = nearest_even(sum((exact(x) * exact(y) for x, y in group), Fraction(0)))
        c = (toward_zero if how.rounding == "toward_zero" else nearest_even)(c + p)
    if how.lattice:
        c = Fraction(round(c * how.lattice), how.lattice)
    return c


KINDS = {
    "mxfp4": BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero()),
    "nvfp4": BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current()),
    "ue5m3": BlockQuantizer(E2M1, UE5M3, 16, tensor_scale=Current(target=448.0)),
}


def operands(kind: str, m: int, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Decoded operands whose block scales spread over many powers of two."""
    spread = torch.exp2(4 * normal(1, k // 16, seed=SEED + 2)).repeat_interleave(16, -1)
    q = KINDS[kind]
    return q(normal(m, k, seed=SEED + 3) * spread).values, q(normal(n, k, seed=SEED + 4)).values


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "how", [Groups(), Groups(rounding="nearest_even"), Groups(size=16), Groups(size=40, lattice=1024)]
)
def test_the_product_is_the_exact_sums_rounded_as_stated(kind: str, how: Groups) -> None:
    a, b = operands(kind, 5, 4, 208)  # the last group is not full
    got = how.product(a, b)
    assert got.dtype == torch.float32
    for i, row in enumerate(a.tolist()):
        for j, column in enumerate(b.tolist()):
            assert Fraction(got[i, j].item()) == scalar_product(row, column, how)


def test_the_order_and_the_rounding_matter() -> None:
    a, b = operands("nvfp4", 16, 16, 512)
    plain = (a.double() @ b.double().mT).float()
    toward, nearest = Groups().product(a, b), Groups(rounding="nearest_even").product(a, b)
    assert (toward != plain).float().mean() > 0.2
    assert (nearest != toward).float().mean() > 0.1
    assert (toward.abs() <= plain.abs()).float().mean() > 0.8  # toward zero shrinks
    assert torch.allclose(toward, plain, rtol=1e-4, atol=1e-2)


def test_one_group_is_the_exact_sum_rounded_once() -> None:
    a, b = operands("nvfp4", 8, 8, 64)
    assert torch.equal(Groups().product(a, b), (a.double() @ b.double().mT).float())
    assert torch.equal(Groups().product(a[:, :48], b[:, :48]), (a[:, :48].double() @ b[:, :48].double().mT).float())


def test_members_of_a_pack_equal_their_solo_results() -> None:
    a, b = normal(3, 4, 200), normal(3, 6, 200, seed=SEED + 5)
    packed = Groups().product(a, b)
    assert packed.shape == (3, 4, 6)
    for i in range(3):
        assert torch.equal(packed[i], Groups().product(a[i], b[i]))
    assert torch.equal(Groups().product(a, b[0])[1], Groups().product(a[1], b[0]))


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 64), (2, 3, 0), (1, 1, 1), (3, 0, 5)])
def test_odd_shapes(m: int, n: int, k: int) -> None:
    got = Groups().product(torch.ones(m, k), torch.ones(n, k))
    assert torch.equal(got, torch.full((m, n), float(k)))


@pytest.mark.parametrize("size", [3, 16])
def test_sums_that_are_inexact_in_float64_are_added_one_by_one(size: int) -> None:
    spread = torch.exp2(20 * normal(6, 48, seed=SEED + 8))
    a, b = normal(6, 48) * spread, normal(5, 48, seed=SEED + 9)
    assert not exact_in_float64(a, b, size)
    got = Groups(size=size, rounding="nearest_even").product(a, b)
    for i, row in enumerate(a.tolist()):
        for j, column in enumerate(b.tolist()):
            c = np.float32(0)
            for start in range(0, 48, size):
                total = 0.0
                for x, y in zip(row[start : start + size], column[start : start + size], strict=True):
                    total += x * y
                c += np.float32(total)
            assert got[i, j].item() == float(c)


def test_exactness_in_float64_is_decided_by_the_lowest_bit_and_the_largest_magnitude() -> None:
    one = torch.ones(1, 2)
    assert exact_in_float64(one, one, 1 << 53)
    assert not exact_in_float64(one, one, 1 << 54)
    assert exact_in_float64(torch.tensor([[2.0**-149, 0.0]]), torch.tensor([[1.0, -(2.0**53)]]), 1)
    assert not exact_in_float64(torch.tensor([[2.0**-149, 2.0**-148]]), torch.tensor([[1.0, -(2.0**53)]]), 1)
    assert exact_in_float64(torch.tensor([[0.75, -3.0]]).bfloat16(), torch.tensor([[5.0, 1.0]]), 1 << 47)
    for bad in (torch.inf, torch.nan):
        assert not exact_in_float64(torch.tensor([[bad]]), one[:, :1], 1)
    assert exact_in_float64(*operands("nvfp4", 5, 4, 208), 64)


def test_under_a_transform_the_bits_are_the_same() -> None:
    a, b = operands("nvfp4", 6, 4, 96)
    mapped = torch.func.vmap(Groups().product, in_dims=(0, None))(a.unflatten(0, (2, 3)), b)
    assert torch.equal(mapped.flatten(0, 1), Groups().product(a, b))


def test_special_values_reach_the_result() -> None:
    a = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [2.0, 1.0]])
    got = Groups(size=1).product(a, torch.ones(1, 2))
    assert got[:, 0].isnan().tolist() == [True, False, False]
    assert got[1:, 0].tolist() == [float("inf"), 3.0]


def test_double_precision_operands_keep_their_type() -> None:
    assert Groups().product(normal(2, 8).double(), normal(3, 8).double()).dtype == torch.float64


# -------------------------------------------------------------------------------------------------------- training
def test_a_gemm_applies_tensor_scales_after_the_accumulation() -> None:
    gemm = Gemm(KINDS["nvfp4"], KINDS["nvfp4"], accumulation=Groups())
    a, b = KINDS["nvfp4"](normal(4, 128)), KINDS["nvfp4"](normal(6, 128, seed=SEED + 6))
    assert a.alpha is not None
    assert b.alpha is not None
    assert torch.equal(gemm.contract(a, b), Groups().product(a.values, b.values) * (a.alpha * b.alpha))


@pytest.mark.parametrize("base", ["nvfp4", "bf16"])
def test_training_with_the_model_of_the_hardware(base: str) -> None:
    recipe = RECIPES[base]
    for point in ("fprop", "dgrad", "wgrad"):
        recipe = override(recipe, f"{point}.accumulation", "groups")

    def losses(recipe: Recipe) -> list[float]:
        torch.manual_seed(SEED)
        model = quantize_(nn.Sequential(nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 8)), recipe)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        x, y = normal(80, 96), normal(80, 8, seed=SEED + 7)
        out = []
        for step in range(30):
            set_clock(model, 0, step, 30)
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            out.append(loss.item())
        return out

    modeled, plain = losses(recipe), losses(RECIPES[base])
    assert modeled[-1] < 0.5 * modeled[0]
    assert modeled[0] == pytest.approx(plain[0], rel=1e-4)
    # at this width every partial sum of NVFP4's products fits FP32: neither the order nor the rounding has an effect
    assert (modeled == plain) == (base == "nvfp4")


def test_written_as_data_and_back() -> None:
    for how in (Groups(), Groups(32, "nearest_even", 1024)):
        data = to_data(replace(RECIPES["mxfp4"].fprop, accumulation=how))["accumulation"]
        assert from_data(Gemm, "accumulation", data, "x") == how
    assert to_data(Groups()) == {"groups": {"arithmetic": 2}}
    assert list(ACCUMULATIONS) == ["groups"]
    assert Groups().ops().why


@pytest.mark.parametrize("wrong", [lambda: Groups(0), lambda: Groups(rounding="up"), lambda: Groups(lattice=-1)])
def test_values_out_of_range_are_refused(wrong: Callable[[], Groups]) -> None:
    with pytest.raises(OptionError):
        wrong()
