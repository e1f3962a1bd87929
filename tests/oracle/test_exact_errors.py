"""Block choices compare errors exactly: rational arithmetic on the values that a GEMM multiplies is the judge."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, UE4M3, UE5M3
from dse.numerics.techniques.choices import IF4, Choice, FourOverSix, ScaleSweep
from dse.numerics.techniques.rounding import NearestAway, Stochastic
from dse.numerics.techniques.tensor_scales import Current
from tests.oracle.test_choices import SWEEP

SEED = 15
NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
SIX = replace(NVFP4, tensor_scale=Current(256.0))
ERRORS = ("mse", "mae", "max")


def decoded(q: BlockQuantizer, x: Tensor) -> list[Tensor]:
    """Every candidate's decoded values without alpha, for all blocks."""
    return [q.trace(x, candidate=number).values for number in range(len(q.trace(x).candidates))]


def exact(values: list[float], alpha: float, x: list[float], error: str) -> Fraction:
    gaps = [abs(Fraction(v) * Fraction(alpha) - Fraction(w)) for v, w in zip(values, x, strict=True)]
    return {"mse": sum(g * g for g in gaps), "mae": sum(gaps), "max": max(gaps)}[error]  # type: ignore[return-value]


def near(a: Tensor, b: Tensor, alpha: float, x: Tensor, error: str) -> Tensor:
    """Blocks [n] that the candidates decode differently and whose errors in FP64 agree to 1e-6."""
    gaps = [(t.double() * alpha - x.double()).abs() for t in (a, b)]
    sums = [g.square().sum(1) if error == "mse" else g.sum(1) if error == "mae" else g.amax(1) for g in gaps]
    return ((sums[0] - sums[1]).abs() <= 1e-6 * sums[0]) & (a != b).any(1)


def judged(q: BlockQuantizer, x: Tensor, error: str) -> tuple[int, int]:
    """Of blocks whose errors are close: how many are exact ties; and how many were given to the wrong candidate."""
    found = q(x)
    alpha = float(found.alpha) if found.alpha is not None else 1.0
    tile = q.tile

    def listed(blocks: Tensor) -> Tensor:
        return blocks.transpose(-3, -2).flatten(-2).flatten(0, -2)

    first, second = (listed(c) for c in decoded(q, x))
    chosen, target = listed(q.trace(found.values).blocks), listed(q.trace(x).blocks)
    assert first.shape[-1] == 16 * tile
    ties = wrong = 0
    for i in near(first, second, alpha, target, error).nonzero().flatten().tolist():
        a, b = (exact(c[i].tolist(), alpha, target[i].tolist(), error) for c in (first, second))
        ties += a == b
        wrong += not torch.equal(chosen[i], (second if b < a else first)[i])
    clear = ~near(first, second, alpha, target, error)
    gaps = [exact_sums(c, alpha, target, error) for c in (first, second)]
    best = torch.where((gaps[1] < gaps[0])[:, None], second, first)
    wrong += int((chosen != best)[clear].any(-1).sum())
    return ties, wrong


def exact_sums(y: Tensor, alpha: float, x: Tensor, error: str) -> Tensor:
    gaps = (y.double() * alpha - x.double()).abs()
    return gaps.square().sum(1) if error == "mse" else gaps.sum(1) if error == "mae" else gaps.amax(1)


def operands(rows: int, seed: int = SEED) -> list[Tensor]:
    """Random BF16, and multiples of 1/8 up to 4.5: 1 / S_enc = 1.5 * 2^-9, so there are ties, but X S_enc rounds."""
    print("seed", seed)
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(-36, 37, (rows, 256), generator=g) / 8
    coarse[0, 0] = 4.5
    return [torch.randn(rows, 256, generator=g).bfloat16().float(), coarse, coarse * 2.0**-40]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("tile", [1, 16])
def test_no_tie_of_four_over_six_goes_to_four(error: str, tile: int) -> None:
    q = replace(SIX, tile=tile, choice=FourOverSix(error))
    results = [judged(q, x, error) for x in operands(256)]
    assert [wrong for _, wrong in results] == [0, 0, 0]
    assert tile > 1 or min(ties for ties, _ in results[1:]) > 20


@pytest.mark.parametrize("options", [{"scale": UE5M3}, {"rounding": NearestAway()}, {"gain": 0.75}], ids=str)
def test_four_over_six_with_other_options(options: dict[str, object]) -> None:
    q = replace(SIX, choice=FourOverSix(), **options)  # type: ignore[arg-type]
    ties = 0
    for x in operands(128):
        found, wrong = judged(q, x, "mse")
        assert wrong == 0
        ties += found
    assert ties > 20


@pytest.mark.parametrize("error", ERRORS)
def test_if4_takes_the_smaller_exact_error(error: str) -> None:
    """Of the values that are decoded, sevenths rounded to FP32: ties are left to blocks that decode alike."""
    q = replace(NVFP4, choice=IF4(error))
    assert [judged(q, x, error)[1] for x in operands(256)] == [0, 0, 0]


def test_a_tie_of_if4_is_fp4() -> None:
    """Both candidates decode 0 and +-6 alike; nothing is left to choose, and E2M1 it is: 3 is 3, not 24/7."""
    q = replace(NVFP4, choice=IF4())
    x = torch.zeros(1, 16)
    x[0, :4] = torch.tensor([6.0, 3.0, -6.0, 0.0])
    assert q.dequantized(x)[0, :4].tolist() == pytest.approx([6.0, 3.0, -6.0, 0.0], rel=1e-6)
    first, second = decoded(q, torch.tensor([[6.0, -6.0, *[0.0] * 14]]))
    assert torch.equal(first, second)


@pytest.mark.parametrize("error", ERRORS)
def test_a_scale_sweep_takes_the_first_of_the_best(error: str) -> None:
    """Eleven candidates in order of preference; 30 blocks judged in full."""
    q = replace(SWEEP, choice=ScaleSweep(error=error))
    for x in operands(2):
        found, candidates = q(x), decoded(q, x)
        alpha = float(found.alpha)  # type: ignore[arg-type]
        for i in range(30):
            at = (i // 16, i % 16)
            target = x.view(2, 16, 16)[at].tolist()
            errors = [exact(c[at[0], 0, at[1]].tolist(), alpha, target, error) for c in candidates]
            best = candidates[errors.index(min(errors))][at[0], 0, at[1]]
            assert torch.equal(found.values.view(2, 16, 16)[at], best)


@pytest.mark.parametrize("choice", [FourOverSix(), IF4(), ScaleSweep()], ids=lambda c: type(c).__name__)
def test_a_block_that_is_not_finite_stays_so(choice: Choice) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        for scale in (None, Current(256.0)):
            for rounding in (NVFP4.rounding, NearestAway()):
                x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
                x[1, 3] = value
                y = replace(NVFP4, tensor_scale=scale, choice=choice, rounding=rounding).dequantized(x)
                assert not y[1, :16].isfinite().any()


def test_stochastic_candidates_share_their_bits() -> None:
    """IF4's G: each block is one of its two stochastic candidates, the nearer one."""
    from dse.numerics.random import key

    q = replace(NVFP4, choice=IF4(), rounding=Stochastic())
    x = operands(64)[0]
    plain = replace(q, choice=None)(x, key())
    found = q(x, key())
    fp4 = (found.values == 7 * plain.values).view(-1, 16).all(-1)
    assert 0.1 < float(fp4.float().mean()) < 0.9
    gaps = [exact_sums(q.values.view(-1, 16), float(q.alpha), x.view(-1, 16), "mse") for q in (found, plain)]  # type: ignore[arg-type]
    assert (gaps[0] <= gaps[1] * (1 + 1e-5)).all()
