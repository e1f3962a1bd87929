"""The delayed tensor scale's schedule and its window (arXiv 2609.02846), and the outer scale of TetraJet-v2."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3, UE5M3
from dse.numerics.random import Key, key
from dse.numerics.techniques.conventions import Decode
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer

HELD = BlockQuantizer(E2M1, UE5M3, 16, tensor_scale=Delayed(), convention=Decode(zero="one"))


def at(step: int, memory: Tensor, point: int = 0, sampling: bool = True) -> Key:
    return Key(torch.tensor([0, step]), 0, point, 0, memory, sampling)


def operand(peak: float) -> Tensor:
    """Largest magnitude ``peak``; everything else at most 1."""
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    x[1, 7] = -peak
    return x


def test_refresh_at_0_50_100() -> None:
    """Sample and hold (published, counted from 1: steps 1, 51, 101): not a maximum over the window."""
    memory, held = torch.zeros(6), []
    for step in range(151):
        alpha = HELD(operand(2.0 + step % 70), at(step, memory)).alpha
        assert alpha is not None
        held.append(round(float(alpha) * 448 * 6, 3))
    assert held == [2.0] * 50 + [52.0] * 50 + [32.0] * 50 + [12.0]
    assert memory.tolist()[1:] == [0.0] * 5


def test_an_empty_memory_is_filled_at_any_step() -> None:
    """Caches start cold, also when a run resumes without them at step 70; then the schedule goes on."""
    memory = torch.zeros(6)
    for step, peak, expected in ((70, 5.0, 5.0), (71, 9.0, 5.0), (99, 9.0, 5.0), (100, 9.0, 9.0), (101, 3.0, 9.0)):
        HELD(operand(peak), at(step, memory, point=3))
        assert memory.tolist() == [0.0, 0.0, 0.0, expected, 0.0, 0.0]


def test_evaluation_reads_and_never_samples() -> None:
    memory = torch.zeros(6)
    HELD(operand(8.0), at(0, memory))
    alpha = HELD(operand(100.0), at(50, memory, sampling=False)).alpha
    assert alpha is not None
    assert float(alpha) * 448 * 6 == pytest.approx(8.0, rel=1e-6)
    assert memory[0] == 8.0


def test_delay_of_one_step_is_the_current_scale() -> None:
    memory = torch.zeros(6)
    every, current = replace(HELD, tensor_scale=Delayed(every=1)), replace(HELD, tensor_scale=Current(448.0))
    for step, peak in enumerate((3.0, 7.0, 1.5)):
        x = operand(peak)
        assert torch.equal(every.dequantized(x, at(step, memory)), current.dequantized(x))


@pytest.mark.parametrize(("target", "high", "low"), [(448.0, 13714.0, 1.7e-6), (2048.0, 3000.0, 3.7e-7)])
def test_the_window_of_proposition_1(target: float, high: float, low: float) -> None:
    """g = 100 held: no scale saturates iff a_B <= 61440 g / T, and the smallest scale stands for 2^-17 g / T.

    Published: T = 448: 1.7e-6 ... 13,714; T = 2048: 3.7e-7 ... 3,000.
    """
    upper, lower = 61440 * 100 / target, 2.0**-17 * 100 / target
    assert abs(upper / high - 1) < 1e-3
    assert abs(lower / low - 1) < 0.02
    q = replace(HELD, tensor_scale=Delayed(target=target))

    def block_of(a: float) -> float:
        """Decoded maximum of a block whose largest magnitude is ``a``, relative to it."""
        memory = torch.full((6,), 100.0)
        x = torch.zeros(1, 32)
        x[0, 0], x[0, 16] = a, 50.0
        return float(q.dequantized(x, at(1, memory))[0, 0]) / a

    assert abs(block_of(upper) - 1) < 1e-5
    assert abs(block_of(lower) - 1) < 1e-5
    assert block_of(1.3 * upper) == pytest.approx(1 / 1.3, rel=1e-5)  # saturates at 6 * 61440 g / (6 T)
    assert block_of(0.49 * lower) == 0.0  # the code rounds to zero, the scale becomes 1, the elements vanish
    assert block_of(0.51 * lower) == pytest.approx(0.5 / 0.51, rel=1e-5)  # 2^-17, so u = 3.06 -> 3


def test_e4m3_has_no_headroom() -> None:
    """U = T = 448: any block above the held g saturates (Prop. 1 with staleness ratio 1)."""
    q = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Delayed())
    memory = torch.full((6,), 100.0)
    x = torch.full((1, 16), 150.0)
    assert q.dequantized(x, at(1, memory)).max() == pytest.approx(100.0, rel=1e-6)
    assert HELD.dequantized(x, at(1, memory)).max() == pytest.approx(150.0, rel=0.05)


@pytest.mark.parametrize("columns", [128, 512, 160, 48])
def test_the_outer_scale_is_nvfp4_of_every_128_columns(columns: int) -> None:
    """1 x 128 groups of a row, each a tensor of its own: S = 448 * 6 / amax_128, bit for bit."""
    x = torch.randn(6, columns, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, columns)
    outer = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Outer(8))
    inner = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
    found = outer(x)
    assert found.alpha is None
    expected = [torch.cat([inner.dequantized(part[None]) for part in row.split(128)], -1) for row in x]
    assert torch.equal(found.values, torch.cat(expected))


def test_the_outer_scale_survives_spread_that_a_tensor_scale_does_not() -> None:
    x = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
    x[:, 128:] *= 1e-7
    tiny = x[:, 128:]

    def error(q: BlockQuantizer) -> float:
        return float((q.dequantized(x)[:, 128:] - tiny).norm() / tiny.norm())

    assert error(BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Outer(8))) < 0.11
    assert error(BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())) > 0.999


def test_a_stack_of_members_holds_one_value_each() -> None:
    """Leading axes are members of a pack, with their own memory, clock and schedule."""
    x = torch.stack([operand(4.0), operand(6.0)])
    memory = torch.tensor([[3.0] * 6, [0.0] * 6])
    clock = torch.tensor([[0, 7], [1, 7]])
    together = HELD.dequantized(x, Key(clock, 0, 2, 0, memory))
    assert memory[:, 2].tolist() == [3.0, 6.0]
    for i, (held, solo) in enumerate(zip((3.0, 0.0), x, strict=True)):
        own = torch.full((6,), held)
        assert torch.equal(HELD.dequantized(solo, Key(clock[i], 0, 2, 0, own)), together[i])


def test_without_a_memory_every_call_samples() -> None:
    x = operand(4.0)
    assert torch.equal(HELD.dequantized(x, key()), HELD.dequantized(x))


NOT_FINITE = (float("nan"), float("inf"), -float("inf"))


def spoiled(peak: float, value: float) -> Tensor:
    x = operand(peak)
    x[2, 20] = value
    return x


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_sample_that_is_not_finite_is_never_held(value: float) -> None:
    """Due at 0, 50, 100. Nothing held: NaN for this call alone. Something held: it stays, and the bad block is seen."""
    memory = torch.zeros(6)
    assert HELD.dequantized(spoiled(2.0, value), at(0, memory)).isnan().all()
    assert memory[0] == 0
    assert HELD.dequantized(operand(3.0), at(1, memory)).isfinite().all()
    assert memory[0] == 3
    found = HELD.dequantized(spoiled(5.0, value), at(50, memory))
    assert memory[0] == 3
    assert not found[2, 16:32].isfinite().any()
    assert found[0].isfinite().all()
    assert HELD(operand(9.0), at(51, memory)).alpha is not None
    assert memory[0] == 3  # until a sample is due again
    HELD(operand(9.0), at(100, memory))
    assert memory[0] == 9


@pytest.mark.parametrize("value", NOT_FINITE)
def test_evaluation_holds_nothing(value: float) -> None:
    memory = torch.zeros(6)
    assert HELD.dequantized(spoiled(2.0, value), at(0, memory, sampling=False)).isnan().all()
    assert memory[0] == 0


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_poisoned_memory_heals(value: float) -> None:
    """Checkpoints of before hold such values: they count as nothing."""
    memory = torch.full((6,), value)
    assert HELD.dequantized(operand(4.0), at(7, memory, sampling=False)).isfinite().all()
    assert HELD.dequantized(operand(4.0), at(7, memory)).isfinite().all()
    assert memory[0] == 4


def test_a_bad_member_does_not_touch_its_neighbors() -> None:
    x = torch.stack([operand(4.0), spoiled(6.0, float("inf")), operand(5.0)])
    memory = torch.tensor([[3.0] * 6, [2.0] * 6, [0.0] * 6])
    HELD(x, Key(torch.tensor([[0, 50], [0, 50], [0, 1]]), 0, 1, 0, memory))
    assert memory[:, 1].tolist() == [4.0, 2.0, 5.0]
