"""Random streams: the published generator, its address, and independence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dse.numerics.gemm import rotation_key
from dse.numerics.points import Point
from dse.numerics.random import GROUP, Key, key, philox

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
ONES = (0xFFFFFFFF,) * 6


def reference(counter: tuple[int, ...], k0: int, k1: int) -> tuple[int, ...]:
    """Philox4x32-10 in Python integers, from the paper (Salmon et al., SC 2011, Sec. 3.3)."""
    c = counter
    for i in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        r0, r1 = (k0 + i * 0x9E3779B9) & 0xFFFFFFFF, (k1 + i * 0xBB67AE85) & 0xFFFFFFFF
        c = ((b >> 32) ^ c[1] ^ r0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ r1, a & 0xFFFFFFFF)
    return c


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_published_answers(words: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Random123's ``kat_vectors`` for philox4x32 with 10 rounds; words in its order: ctr[0..3], key[0..1].

    ``philox`` takes and returns the words in pairs, (0, 2) and (1, 3).
    """
    c0, c1, c2, c3, k0, k1 = words
    pairs = philox(torch.tensor([[c0], [c2]]), torch.tensor([[c1], [c3]]), torch.tensor([k0]), torch.tensor([k1]))
    even, odd = (pair.flatten().tolist() for pair in pairs)
    assert (even[0], odd[0], even[1], odd[1]) == expected
    assert reference(words[:4], *words[4:]) == expected


@pytest.mark.parametrize(("n", "lane"), [(1, 8), (8, 8), (11, 16), (16, 16), (23, 32), (32, 32)])
def test_the_address_of_every_bit(n: int, lane: int) -> None:
    """Counter (index of the call, point | draw << 8 | lane << 16, layer, step), key (low, high word of the seed).

    The four words of a call are its bytes in little-endian order; 16 consecutive elements of a row take ``lane / 8``
    calls; a value of n bits is the top of its lane.
    """
    seed, step, layer, point, draw, rows, columns = 0x1234567890, 7, 3, 5, 2, 3, 37
    stream = Key(torch.tensor([seed, step]), layer, point, draw).bits(rows, columns, n)
    calls, groups = lane // 8, -(-columns // GROUP)
    purpose = point | draw << 8 | lane << 16
    counters = [(i, purpose, layer, step) for i in range(rows * groups * calls)]
    words = [reference(c, seed & 0xFFFFFFFF, seed >> 32) for c in counters]
    lanes = np.array(words, dtype="<u4").view(f"<u{lane // 8}").reshape(rows, groups * GROUP)[:, :columns]
    assert np.array_equal(stream.long().numpy(), (lanes.astype(np.int64) >> (lane - n)))
    assert stream.dtype == (torch.uint8 if n == 8 else torch.int64)


def test_an_element_does_not_depend_on_the_rows_after_it() -> None:
    assert torch.equal(key(1).bits(10, 33, 8)[:4], key(1).bits(4, 33, 8))


@pytest.mark.parametrize("n", [1, 8, 16, 23])
def test_a_pack_draws_what_its_members_draw_alone(n: int) -> None:
    members = [(0, 0), (1, 0), (0, 9), (2**40 + 3, 2**31 + 5), (-1, 4)]
    pack = Key(torch.tensor(members), layer=2, point=4, draw=1).bits(5, 20, n)
    assert pack.shape == (len(members), 5, 20)
    for member, bits in zip(members, pack, strict=True):
        assert torch.equal(bits, Key(torch.tensor(member), 2, 4, 1).bits(5, 20, n))
    nested = Key(torch.tensor(members[:4]).view(2, 2, 2), 2, 4, 1).bits(5, 20, n)
    assert torch.equal(nested.flatten(0, 1), pack[:4])


def test_streams_are_different_and_uncorrelated() -> None:
    """Points, layers, steps, draws, seeds (their high word too) and widths: two streams agree as often as chance."""
    base = key(seed=3, step=5, layer=1, point=2)
    streams = {
        "base": base,
        "rotation point": base.at(66),
        "layer": Key(base.clock, 2, 2),
        "step": key(3, 6, 1, 2),
        "draw": base.fork(1),
        "seed": key(4, 5, 1, 2),
        "high seed": key(3 + 2**32, 5, 1, 2),
        **{f"point {p}": base.at(p) for p in (0, 1, 3, 4, 5)},
        "point and layer swapped": key(3, 5, 2, 1),
        "seed and step swapped": key(5, 3, 1, 2),
    }
    n = 64 * 256
    bits = {name: k.bits(64, 256, 8).flatten().double() for name, k in streams.items()}
    names = list(bits)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            agree = float((bits[a] == bits[b]).sum())
            assert abs(agree - n / 256) < 6 * (n / 256) ** 0.5, (a, b)
            r = torch.corrcoef(torch.stack([bits[a], bits[b]]))[0, 1]
            assert abs(r) < 5 / n**0.5, (a, b)
    wide = base.bits(64, 256, 16).flatten()
    assert abs(float(((wide >> 8) == bits["base"]).sum()) - n / 256) < 6 * (n / 256) ** 0.5


@pytest.mark.parametrize("n", [1, 4, 8, 12])
def test_bits_are_uniform(n: int) -> None:
    bits = key(11).bits(256, 1024, n).long().flatten()
    counts = torch.bincount(bits, minlength=2**n)
    assert len(counts) == 2**n
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    runs = bits[1:].double() - bits[:-1].double()  # neighbors are not correlated either
    variance = (4**n - 1) / 12
    assert abs(runs.var() / (2 * variance) - 1) < 0.02


def test_the_global_generator_plays_no_part() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = key(1).bits(4, 4, 8)
    torch.manual_seed(1)
    assert torch.equal(first, key(1).bits(4, 4, 8))
    torch.set_rng_state(state)
    key(1).bits(4, 4, 8)
    assert torch.equal(state, torch.get_rng_state())


def test_the_numbers_of_the_points() -> None:
    """Part of every trial's random stream, and the order of held scales in checkpoints."""
    numbers = {"fprop.lhs": 0, "fprop.rhs": 1, "dgrad.lhs": 2, "dgrad.rhs": 3, "wgrad.lhs": 4, "wgrad.rhs": 5}
    assert {point.path: int(point) for point in Point} == numbers
    for point in Point:
        assert (point.gemm, point.lhs.path) == (point.path[:5], f"{point.path[:5]}.lhs")
        assert torch.equal(key(3).at(point).bits(2, 20, 8), key(3, point=numbers[point.path]).bits(2, 20, 8))
        assert rotation_key(key(3).at(point.lhs)).point == 64 + point.lhs
