"""Every element and scale format against gfloat and ml_dtypes, in every rounding mode: zero mismatches.

Named policy differences are in ``test_format_policies``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.grid import shift_codes
from dse.numerics.techniques.rounding import NEAREST_EVEN, AwayFromZero, NearestAway, Rounding, Stochastic, TowardZero
from tests.oracle.codebooks import (
    FACTS,
    FORMATS,
    ONE_BIT,
    SEED,
    comparable,
    decoded,
    every,
    gfloats,
    listed,
    ours,
    pairs,
    points,
    same_bits,
    signed,
    without_minus_zero,
)

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in cast:RuntimeWarning")


def test_the_table_covers_the_registries() -> None:
    assert set(FACTS) == set(FORMATS)
    assert len(ELEMENTS) + len(SCALES) == len(FACTS)


@every
def test_published_numbers(name: str) -> None:
    fmt, facts = FORMATS[name], FACTS[name]
    assert fmt.bits == facts.bits
    assert fmt.max == facts.largest
    assert fmt.smallest == facts.smallest
    assert 2.0**fmt.emin == facts.normal
    assert (fmt.bias, fmt.man) == (facts.bias, facts.precision - 1)
    assert fmt.signed == name.startswith("element")


@listed
def test_the_codebook_is_gfloats(name: str) -> None:
    """Every code, decoded: E1M2 has 8 magnitudes 0, .5 ... 3.5, the UE5M3 codebooks 248, 255 and 256."""
    grid = FORMATS[name].grid.numpy()
    assert len(grid) == FACTS[name].values
    same_bits(grid, decoded(name), grid)


@pytest.mark.parametrize("name", [n for n in FACTS if FACTS[n].ml_dtypes])
def test_the_codebook_is_ml_dtypes(name: str) -> None:
    facts, fmt = FACTS[name], FORMATS[name]
    dtype = np.dtype(getattr(ml_dtypes, str(facts.ml_dtypes)))
    width = facts.bits - fmt.signed
    if facts.ml_dtypes == "int4":
        values = np.arange(2**width).astype(dtype).astype(np.float64)
    else:
        values = (
            np.arange(2**width, dtype=np.uint16 if dtype.itemsize == 2 else np.uint8).view(dtype).astype(np.float64)
        )
    assert np.array_equal(fmt.grid.numpy(), values[np.isfinite(values)])


@every
def test_every_value_stays(name: str) -> None:
    """Casts are idempotent, in float32 and float64, in every mode."""
    u = signed(name, points(name, SEED, 4_000))
    for rounding in (NEAREST_EVEN, NearestAway(), TowardZero(), AwayFromZero(), Stochastic(8)):
        bits = np.random.default_rng(SEED).integers(0, 256, u.shape) if rounding.random_bits else None
        for dtype in (np.float32, np.float64):
            q = ours(u, name, rounding, bits, dtype)
            same_bits(ours(q, name, rounding, bits, dtype), q, u)


DIRECTED = list(pairs((TowardZero(), "TowardZero"), (AwayFromZero(), "TowardPositive")))
NEAREST = list(pairs((NEAREST_EVEN, "TiesToEven"), (NearestAway(), "TiesToAway")))


@every
@pytest.mark.parametrize(("rounding", "mode"), NEAREST)
def test_nearest(name: str, rounding: Rounding, mode: str) -> None:
    """Values, midpoints, their float32 and float64 neighbors, 1e5 random values over the range; both signs."""
    print("seed", SEED)
    u = comparable(signed(name, points(name, SEED)), name)
    if name in ONE_BIT and mode == "TiesToEven":
        ties = (np.frexp(u)[0] == 0.75 * np.sign(u)) & (np.abs(u) > FACTS[name].smallest)
        u = u[~ties]
    expected = without_minus_zero(gfloats(u, name, mode), name)
    same_bits(without_minus_zero(ours(u, name, rounding), name), expected, u)
    single = u[(u.astype(np.float32) == u) & (np.abs(u) < 3.4e38)]
    expected = without_minus_zero(gfloats(single, name, mode), name)
    same_bits(without_minus_zero(ours(single, name, rounding, dtype=np.float32), name), expected, single)


@every
@pytest.mark.parametrize(("rounding", "mode"), DIRECTED)
def test_directed(name: str, rounding: Rounding, mode: str) -> None:
    """Magnitudes against TowardZero and TowardPositive; negative values mirror them."""
    u = points(name, SEED, 20_000)
    u = u[u >= FACTS[name].smallest] if name == "scale e8m0" else u
    expected = gfloats(u, name, mode)
    same_bits(ours(u, name, rounding), expected, u)
    if FORMATS[name].signed:
        same_bits(ours(-u, name, rounding), -expected, u)


@every
@pytest.mark.parametrize("n", [8, 16, 23])
def test_stochastic_on_the_same_bits(name: str, n: int) -> None:
    """Equal to gfloat's StochasticFast on the same bits, for 8 (hardware), 16 and 23 bits."""
    u = comparable(signed(name, points(name, SEED, 20_000)), name)
    bits = np.random.default_rng(SEED).integers(0, 2**n, u.shape)
    expected = without_minus_zero(gfloats(u, name, "StochasticFast", srbits=bits, srnumbits=n), name)
    same_bits(without_minus_zero(ours(u, name, Stochastic(n), bits), name), expected, u)


@every
def test_stochastic_differs_from_gfloats_exact_mode_by_half_steps_only(name: str) -> None:
    """Named difference: gfloat's Stochastic rounds frac * 2^n to even first, ours to nearest with halves up."""
    n = 8
    u = points(name, SEED, 20_000)
    u = u[(u >= FACTS[name].smallest) & (u <= FACTS[name].largest)]
    bits = np.random.default_rng(SEED).integers(0, 2**n, u.shape)
    expected = gfloats(u, name, "Stochastic", srbits=bits, srnumbits=n)
    found = ours(u, name, Stochastic(n), bits)
    down, up = ours(u, name, TowardZero()), ours(u, name, AwayFromZero())
    with np.errstate(invalid="ignore"):
        share = (u - down) / (up - down) * 2**n
    half = share - np.floor(share) == 0.5
    same_bits(found[~half], expected[~half], u[~half])


@pytest.mark.parametrize("name", [n for n in FACTS if FACTS[n].ml_dtypes and FACTS[n].ml_dtypes != "int4"])
def test_ml_dtypes(name: str) -> None:
    """Inside the range, bit for bit, on float32 input."""
    u = points(name, SEED).astype(np.float32)
    low = 2.0**-126 if name == "scale e8m0" else 0
    u = signed(name, u[(u <= FACTS[name].largest) & (u >= low)])
    expected = u.astype(getattr(ml_dtypes, str(FACTS[name].ml_dtypes))).astype(np.float32)
    same_bits(ours(u, name, dtype=np.float32), expected, u)


@listed
@pytest.mark.parametrize("codes", [-3, -1, 1, 7])
def test_shifted_codes(name: str, codes: int) -> None:
    """The value so many codes away, within the positive range; zero stays."""
    grid = decoded(name)
    positive = grid[grid > 0]
    expected = positive[np.clip(np.arange(len(positive)) + codes, 0, len(positive) - 1)]
    found = shift_codes(torch.from_numpy(positive.copy()), FORMATS[name], codes).numpy()
    assert np.array_equal(found, expected)
    assert shift_codes(torch.zeros(1), FORMATS[name], codes).item() == 0
