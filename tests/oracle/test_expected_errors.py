"""Relative mean squared errors on Gaussian, Laplace and outlier-ridden blocks, within sampling error.

Relative MSE is sum (f(X) - X)^2 / sum X^2. Reference values are means over 2^24 elements; each test draws 2^19 and must
agree within 5 of its standard errors. Power-of-two scales depend on the phase of sigma in its binade: sigma = 1 here.

Of two sets of figures, NVFP4 .0091, Four-over-six .0076, ScaleSweep .0066 (Gaussian), .0086, .0076, .0068 and
MXFP4 .0159 (Laplace) are those of these distributions. The other set, MXFP4 floor .0206, RCEIL .0233, CEIL .0379,
EVEN .0200, NVFP4 .00889, Four-over-six .00792 (MAE .00808), is said to be of 'randn', but no Gaussian has it: all seven
are those of randn with 0.5 % of its elements multiplied by 10, as OUTLIERS shows.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import erf, exp, pi, sqrt

import pytest
import torch
from torch import Tensor

from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E4M3, E8M0, ELEMENTS, FP32, UE4M3, UE5M3
from dse.numerics.random import key
from dse.numerics.techniques.choices import IF4, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Encode
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import AwayFromZero, MantissaEven, TowardZero
from dse.numerics.techniques.statistics import Quest
from dse.numerics.techniques.tensor_scales import Current
from tests.oracle.operands import torchao_mx

SEED = 20261122
FLOOR = BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero())
NVFP4 = BlockQuantizer(E2M1, UE4M3, 16, tensor_scale=Current())
FOUR_OVER_SIX = replace(NVFP4, tensor_scale=Current(256.0), choice=FourOverSix())
QUANTIZERS = {
    "mxfp4 floor": FLOOR,
    "mxfp4 up": BlockQuantizer(E2M1, E8M0, 32, scale_rounding=AwayFromZero()),
    "mxfp4 ceil": replace(FLOOR, scale_rounding=AwayFromZero()),
    "mxfp4 even": replace(FLOOR, scale_rounding=MantissaEven()),
    "nvfp4": NVFP4,
    "ue5m3": replace(NVFP4, scale=UE5M3, tensor_scale=Current(448.0)),
    "four over six": FOUR_OVER_SIX,
    "four over six, mae": replace(FOUR_OVER_SIX, choice=FourOverSix("mae")),
    "four over six, max": replace(FOUR_OVER_SIX, choice=FourOverSix("max")),
    "if4": replace(NVFP4, choice=IF4()),
    "scale sweep": replace(NVFP4, scale_rounding=TowardZero(), choice=ScaleSweep()),
    "e2m1, fp32 scale": BlockQuantizer(E2M1, FP32, 16),
    "int4, fp32 scale": BlockQuantizer(ELEMENTS["int4"], FP32, 16),
    "e1m2, fp32 scale": BlockQuantizer(ELEMENTS["e1m2"], FP32, 16),
    "inverse scale": replace(NVFP4, convention=Encode(divisor=True)),
    "mxfp6 e2m3": BlockQuantizer(ELEMENTS["e2m3"], E8M0, 32, constant=4.0, scale_rounding=TowardZero()),
    "mxfp6 e3m2": BlockQuantizer(ELEMENTS["e3m2"], E8M0, 32, constant=16.0, scale_rounding=TowardZero()),
    "mxfp8 up": BlockQuantizer(E4M3, E8M0, 32, scale_rounding=AwayFromZero()),
}
GAUSS = {  # value and standard error of 2^20 elements, both in units of 1e-6
    "mxfp4 floor": (13219, 23),
    "mxfp4 up": (13313, 20),
    "mxfp4 ceil": (20785, 35),
    "mxfp4 even": (12509, 16),
    "nvfp4": (9046, 13),
    "ue5m3": (9046, 13),
    "four over six": (7564, 10),
    "four over six, mae": (7800, 11),
    "four over six, max": (7986, 10),
    "if4": (6152, 8),
    "scale sweep": (6598, 6),
    "e2m1, fp32 scale": (8868, 13),
    "int4, fp32 scale": (7253, 11),
    "e1m2, fp32 scale": (7253, 11),
    "inverse scale": (12300, 132),
    "mxfp6 e2m3": (805, 1.5),
    "mxfp6 e3m2": (2911, 6),
    "mxfp8 up": (705, 1),
}
LAPLACE = {
    "mxfp4 floor": (15862, 43),
    "mxfp4 up": (17540, 53),
    "mxfp4 ceil": (28590, 84),
    "mxfp4 even": (15277, 45),
    "nvfp4": (8591, 14),
    "four over six": (7592, 14),
    "four over six, mae": (7826, 15),
    "four over six, max": (8165, 18),
    "if4": (7000, 11),
    "scale sweep": (6797, 9),
    "e2m1, fp32 scale": (8312, 15),
    "int4, fp32 scale": (10240, 18),
    "mxfp6 e2m3": (931, 2),
    "mxfp6 e3m2": (2994, 9),
    "mxfp8 up": (702, 2),
}
OUTLIERS = {
    "mxfp4 floor": (20517, 170),
    "mxfp4 up": (23143, 133),
    "mxfp4 ceil": (38219, 159),
    "mxfp4 even": (19926, 109),
    "nvfp4": (8862, 20),
    "four over six": (7910, 18),
    "four over six, mae": (8069, 19),
}
OTHER_FIGURES = {
    "mxfp4 floor": 0.02055,
    "mxfp4 up": 0.02331,
    "mxfp4 ceil": 0.03789,
    "mxfp4 even": 0.01997,
    "nvfp4": 0.00889,
    "four over six": 0.00792,
    "four over six, mae": 0.00808,
}


def gauss(rows: int = 512) -> Tensor:
    return torch.randn(rows, 1024, generator=torch.Generator().manual_seed(SEED))


def laplace() -> Tensor:
    """Unit variance."""
    g = torch.Generator().manual_seed(SEED)
    magnitude = torch.empty(512, 1024).exponential_(generator=g) / sqrt(2)
    return torch.where(torch.rand(512, 1024, generator=g) < 0.5, -magnitude, magnitude)


def outliers(rows: int = 512) -> Tensor:
    """randn, each element multiplied by 10 with probability 0.5 %."""
    g = torch.Generator().manual_seed(SEED)
    return torch.randn(rows, 1024, generator=g) * torch.where(torch.rand(rows, 1024, generator=g) < 0.005, 10.0, 1.0)


def error(y: Tensor, x: Tensor) -> float:
    return float((y - x).double().square().sum() / x.double().square().sum())


def check(name: str, x: Tensor, reference: tuple[float, float]) -> None:
    value, deviation = (1e-6 * v for v in reference)
    tolerance = 5 * deviation * sqrt(2**20 / x.numel()) + 1e-6
    found = error(QUANTIZERS[name].dequantized(x), x)
    assert abs(found - value) < tolerance, f"{found:.6f}, expected {value:.6f} within {tolerance:.6f} (seed {SEED})"


@pytest.mark.parametrize("name", GAUSS)
def test_gaussian(name: str) -> None:
    check(name, gauss(), GAUSS[name])


@pytest.mark.parametrize("name", LAPLACE)
def test_laplace(name: str) -> None:
    check(name, laplace(), LAPLACE[name])


@pytest.mark.parametrize("name", OUTLIERS)
def test_outliers(name: str) -> None:
    check(name, outliers(), OUTLIERS[name])


@pytest.mark.parametrize("name", OTHER_FIGURES)
def test_where_the_other_figures_come_from(name: str) -> None:
    """Within 3 standard errors of 2^20 elements of what the outlier mixture gives; far from the Gaussian values."""
    value, deviation = (1e-6 * v for v in OUTLIERS[name])
    assert abs(OTHER_FIGURES[name] - value) < 3 * deviation
    gaussian, gaussian_deviation = (1e-6 * v for v in GAUSS[name])
    assert abs(OTHER_FIGURES[name] - gaussian) > 10 * gaussian_deviation


@pytest.mark.parametrize(
    ("mode", "name"), [("FLOOR", "floor"), ("RCEIL", "up"), ("CEIL", "ceil"), ("EVEN", "even")], ids=lambda v: v
)
def test_torchao_has_the_same_error_on_the_same_data(mode: str, name: str) -> None:
    """So the figures are properties of the formats, not of this implementation."""
    for x in (gauss(64), outliers(64)):
        theirs, _ = torchao_mx(x, "e2m1", mode)
        assert torch.equal(theirs, QUANTIZERS[f"mxfp4 {name}"].dequantized(x))


def test_floor_saturates_30_percent_of_gaussian_blocks() -> None:
    """Share of blocks of 32 with amax in (1.5, 2) * 2^k: .2962 in closed form (31 % in the outlier mixture)."""

    def below(t: float) -> float:
        return erf(t / sqrt(2)) ** 32

    closed = sum(below(2.0 ** (k + 1)) - below(1.5 * 2.0**k) for k in range(-4, 4))
    assert abs(closed - 0.2962) < 0.0005
    for x, share in ((gauss(), closed), (outliers(), 0.310)):
        peak = x.view(-1, 32).abs().amax(-1)
        found = float((torch.frexp(peak).mantissa > 0.75).float().mean())
        assert abs(found - share) < 4 * sqrt(share * (1 - share) / 16384)


def test_quest_clip_minimizes_the_gaussian_error() -> None:
    """E2M1 with step s sigma, sigma known: least relative MSE .012685 at s = .487079, which is 2.92247856 / 6."""

    def expected(s: float) -> float:
        """E (s Q(x/s) - x)^2 for x ~ N(0, 1), cell by cell in closed form."""
        grid = [s * v for v in E2M1.grid.tolist()]
        edges = [0.0, *[(a + b) / 2 for a, b in pairwise(grid)], 40.0]
        total = 0.0
        for v, (a, b) in zip(grid, pairwise(edges), strict=True):
            mass = (erf(b / sqrt(2)) - erf(a / sqrt(2))) / 2
            da, db = (exp(-t * t / 2) / sqrt(2 * pi) for t in (a, b))
            total += 2 * (mass * (1 + v * v) + (a * da - b * db) - 2 * v * (da - db))
        return total

    s = Quest().clip / 6
    assert abs(expected(s) - 0.012685) < 5e-7
    assert expected(s) < min(expected(s * 0.995), expected(s * 1.005))
    q = BlockQuantizer(E2M1, FP32, 0, statistic=Quest())  # one sigma for 1,024 elements
    assert abs(error(q.dequantized(gauss()), gauss()) - expected(s)) < 6e-5


@pytest.mark.parametrize(("element", "product", "magnitude"), [("e2m1", 0.99589, 0.99294), ("int4", 1.00061, 0.99661)])
def test_shrinkage(element: str, product: float, magnitude: float) -> None:
    """E[x Q(x)] / E[x^2] and E|Q| / E|x| with exact block scales of 16 (as UFP4 finds): E2M1 shrinks, INT4 does not."""
    x = gauss(1024)
    y = BlockQuantizer(ELEMENTS[element], FP32, 16).dequantized(x)
    assert abs(float((x * y).sum() / x.square().sum()) - product) < 2e-4
    assert abs(float(y.abs().sum() / x.abs().sum()) - magnitude) < 4e-4


def test_rotation_hurts_blocks_of_16_and_helps_32_on_laplace_data() -> None:
    """arXiv 2509.23202: NVFP4 .0086 -> .0091; MXFP4 floor .0159 -> .0132; with the 4/3 grid .0174 -> .0135."""
    x = laplace()
    wide = replace(FLOOR, gain=0.75)  # elements of .75 x / 2^e, decoded by 4/3: 6 stands for 8 * 2^e, nothing saturates
    for q, raw, turned in ((NVFP4, 0.0086, 0.0091), (FLOOR, 0.0159, 0.0132), (wide, 0.0174, 0.0135)):
        hadamard = Hadamard(q.block, "none")
        rotated = hadamard.turn(x, hadamard.basis(x, key()))
        assert abs(error(q.dequantized(x), x) - raw) < 1e-4
        assert abs(error(q.dequantized(rotated), rotated) - turned) < 2e-4  # given to two digits
