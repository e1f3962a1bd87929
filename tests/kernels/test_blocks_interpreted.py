"""The general kernels of blocks under Triton's interpreter: the reference's bits, a few members of every structure."""

from __future__ import annotations

import pytest

from tests.interpreted import interpreted

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from dataclasses import replace
from dse.fused import quantize, quantize_both, table
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, general_options, operands, reference, structures

from dse.fused import block_launch, long_launch

most, rows, columns, kinds, pieces = {most}, {rows}, {columns}, {kinds!r}, {pieces}
if pieces:  # no program holds a block
    block_launch.LARGEST_WHOLE, long_launch._ELEMENTS, long_launch._FOLD = 4, pieces, 4
for number, (program, uses) in enumerate(structures(general_options()).items()):
    assert program != "", uses
    if pieces and not any(word in program for word in ("tile 0, block 0", "outer 3", "max of 6")):
        continue
    uses = uses[:: max(1, len(uses) // most)]
    names, own = [n for n, _ in uses], [u for _, u in uses]
    t, given = table(own, "cpu"), dict(operands(len(own), rows, columns))
    for kind in kinds:
        x = given[kind]
        start = torch.tensor([0.0, 3.0, torch.nan]).repeat(len(own))[: len(own), None].expand(-1, 6).clone()
        keys = [Key(clock(len(own)), 3, 2, 0, start.clone()) for _ in range(3)]
        expected, bad, used = reference(x, own, keys[0]), [], []
        if most > 1 or number % 2 == 0:  # one layout of a structure, or both
            bad += differences(quantize(x, t, keys[1], torch.float32), expected)
            used.append(keys[1])
        if most > 1 or number % 2 == 1:
            first, second = quantize_both(x.mT.contiguous().mT, t, keys[2], t, keys[2].at(5), torch.float32)
            bad += differences(first, expected)
            used.append(keys[2])
            if "choice" in program:  # they share what they have measured
                wanted = replace(keys[0].at(5), memory=start.clone())
                bad += differences(second, reference(x.mT, own, wanted))
        assert not bad, (program, kind, [(names[i], line) for i, line in bad])
        for key in used:
            mine, theirs = (k.memory[:, 2].nan_to_num(-1) for k in (key, keys[0]))
            assert torch.equal(mine, theirs), (names, mine, theirs)
print("done")
"""


@pytest.mark.parametrize(
    ("most", "rows", "columns", "kinds", "pieces"),
    [
        (1, 9, 34, ["special"], 0),
        (1, 5, 19, ["special"], 64),
        pytest.param(50, 20, 50, ["special", "ties", "infinite"], 0, marks=pytest.mark.slow),
        pytest.param(50, 20, 50, ["special"], 64, marks=pytest.mark.slow),
    ],
    ids=["one of a structure", "in pieces", "all", "all in pieces"],
)
def test_kernels_give_the_references_bits(most: int, rows: int, columns: int, kinds: list[str], pieces: int) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton")
    run(PROGRAM.format(most=most, rows=rows, columns=columns, kinds=kinds, pieces=pieces))


def run(program: str) -> None:
    """Under the interpreter."""
    assert interpreted("-c", program) == "done"


TIES = """
import torch
from dataclasses import replace
from dse.fused import Use, quantize, table
from dse.numerics.techniques.choices import IF4, FourOverSix
from tests.kernels.cases import BASE, clock, differences, reference
from dse.numerics.random import Key

seed = {seed}
x = torch.randn(1, 256, 16, generator=torch.Generator().manual_seed(seed))
for choice in (FourOverSix("mse"), FourOverSix("mae"), IF4("mse")):
    use = Use(replace(BASE, choice=choice), None)
    low, high = x.clone(), x.clone()  # of element 5, between which the choice of most blocks turns
    low[..., 5], high[..., 5] = 0.667 * x.abs().amax(-1), 0.75 * x.abs().amax(-1)
    chosen = [use.quantizer.trace(y).chosen.flatten() for y in (low, high)]
    turns = (chosen[0] != chosen[1]).nonzero().flatten()
    assert len(turns) >= 10, (seed, choice)
    low, high = low[:, turns], high[:, turns]
    first = use.quantizer.trace(low).chosen.flatten()
    bits = [y[..., 5].contiguous().view(torch.int32) for y in (low, high)]
    while (bits[1] - bits[0]).max() > 1:
        middle = low.clone()
        middle[..., 5] = ((bits[0] + bits[1]) // 2).view(torch.float32)
        same = use.quantizer.trace(middle).chosen.flatten() == first
        at = middle[..., 5].contiguous().view(torch.int32)
        bits = [torch.where(same, at, bits[0]), torch.where(same, bits[1], at)]
    for own in bits:
        low[..., 5] = own.view(torch.float32)
        found = quantize(low, table([use], "cpu"), Key(clock(1), 3, 2), torch.float32)
        assert not differences(found, reference(low, [use], Key(clock(1), 3, 2))), (seed, choice)
print("done")
"""


def test_choices_between_neighboring_floats() -> None:
    """Errors that differ in the last bits of one element are told apart as the reference tells them."""
    pytest.importorskip("triton")
    run(TIES.format(seed=5))


QUANTILES = """
import torch
from dse.fused.outlier_launch import split_operand
from dse.numerics.techniques.outliers import Clamp

seed = {seed}
x = torch.randn(4, 5, 300, generator=torch.Generator().manual_seed(seed))
x[1, 0], x[1, 1] = torch.nan, torch.inf
x[2], x[3] = -0.0, (2 * x[3]).round()  # many ties
x[3, :, :40] = -torch.inf
x = x.bfloat16()
for clamp in (Clamp(0.99), Clamp(0.51)):
    found = [split_operand(y, clamp)[1][0].nan_to_num(7.5, 8.5, -8.5) for y in (x, x.float())]
    wanted = clamp.split(x.float()).quantized[0].nan_to_num(7.5, 8.5, -8.5)
    assert torch.equal(found[0], wanted) and torch.equal(found[1], wanted), (seed, clamp)
print("done")
"""


def test_quantiles_of_bf16_numbers_take_half_the_digits() -> None:
    pytest.importorskip("triton")
    run(QUANTILES.format(seed=11))
