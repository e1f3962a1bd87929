"""The kernels under Triton's interpreter: the reference's bits without a GPU, on a few members and small tiles."""

from __future__ import annotations

import pytest

from tests.interpreted import interpreted

pytest.importorskip("triton")

PROGRAM = """
import torch
torch.set_num_threads(1)
from dse.fused import exact_in_bf16, quantize, quantize_both, table
from dse.fused.launch import LaunchShape
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, large_rotations, operands, options, reference
known = dict(options()) | dict(large_rotations())
names = {names!r}
uses = [known[n] for n in names]
uses2 = [known[n] for n in {others!r} or names]
t, t2 = table(uses, "cpu"), table(uses2, "cpu")
small = LaunchShape(64, 4, 64, 32, 1, {store})
kinds = dict(operands(len(uses), {rows}, {columns}))
for kind in {kinds!r}:
    x = kinds[kind]
    held = torch.tensor({held!r}, dtype=torch.float32)
    start = held.repeat(len(uses))[: len(uses), None].expand(-1, 6).clone() if len(held) else None
    for sampling in (True, False) if len(held) else (True,):
        memories = [start, start] if start is None else [start.clone(), start.clone()]
        found, wanted = ([Key(clock(len(uses)), 3, p, 0, memory, sampling) for p in (2, 5)] for memory in memories)
        first, second = quantize_both(x, t, found[0], t2, found[1], {dtype}, small)
        bad = differences(first, reference(x, uses, wanted[0])) + differences(second, reference(x.mT, uses2, wanted[1]))
        assert not bad, (kind, [(names[i], line) for i, line in bad])
        for name, mine, theirs in zip(names, *(memories if len(held) else ([], []))):
            assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), (name, sampling, mine, theirs)
"""


@pytest.mark.parametrize(
    ("names", "rows", "columns", "kinds", "dtype", "store", "held"),
    [
        (["element=e2m1", "stochastic 7", "rounding=nearest_away"], 20, 34, ["special"], "torch.float32", 8, []),
        (["element=int8", "block=32 tile=2", "bf16"], 18, 48, ["bf16"], "torch.float32", 8, []),
        (["hadamard 32 random", "identity", "decode one quantized Current(target=448.0, through='ignore')"], 20, 40,
         ["special"], "torch.float32", 8, []),
        pytest.param(["hadamard 512 fixed", "hadamard 1024 random"], 3, 20, ["normal"], "torch.float32", 8, [],
                     marks=pytest.mark.slow),
        (["decode flush unquantized None", "encode one unquantized True None", "encode smallest quantized False None"],
         18, 34, ["special"], "torch.float32", 8, []),
        (["scale=e8m0", "stochastic 3"], 20, 34, ["normal"], "torch.bfloat16", 16, []),
        (["scale=e8m0", "scale=ue5m3", "encode one quantized False None", "scale=ue4m3 tensor", "scale=ue4m3 tensor",
          "encode smallest quantized True Current(target=None, through='ignore')"], 6, 20, ["infinite"],
         "torch.float32", 8, []),
        (["delayed"] * 6, 5, 18, ["infinite"], "torch.float32", 8, [0.0, 3.0, float("nan"), float("inf")]),
    ],
    ids=["roundings", "blocks", "rotations", "large rotations", "infinite blocks", "bf16", "infinities", "held scales"],
)  # fmt: skip
def test_kernels_give_the_references_bits(
    names: list[str], rows: int, columns: int, kinds: list[str], dtype: str, store: int, held: list[float]
) -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    words = {"names": names, "rows": rows, "columns": columns, "kinds": kinds, "dtype": dtype, "store": store}
    run(PROGRAM.format(**words, others=[], held=held))


@pytest.mark.parametrize(
    ("names", "others", "held"),
    [
        (["scale=ue4m3 tensor", "delayed", "identity"], ["gain, tensor scale", "hadamard 16 random", "bf16 rotated"],
         [0.0, 3.0]),
        (["hadamard 8 fixed", "bf16"], ["delayed", "element=e2m1"], [3.0]),
        (["scale=ue4m3 tensor", "element=e2m1"], ["delayed", "scale=ue5m3 tensor"], [3.0, 0.0]),
    ],
    ids=["the second rotated", "the first rotated", "neither"],
)  # fmt: skip
def test_two_operands_of_one_tensor(names: list[str], others: list[str], held: list[float]) -> None:
    """Their tensor scales come from one read of it."""
    words = {"names": names, "rows": 20, "columns": 40, "kinds": ["bf16", "infinite"], "dtype": "torch.float32"}
    run(PROGRAM.format(**words, store=8, others=others, held=held))


KNOWN = """
import torch
from dse.fused import quantize_both, table
from dse.fused.launch import LaunchShape
from dse.numerics.random import Key
from tests.kernels.cases import block_options, clock, differences, large_rotations, operands, options, reference
known = dict(options()) | dict(large_rotations()) | dict(block_options())
key = Key(clock(2), 3, 2, 0, torch.tensor([[3.0], [0.0]]).expand(-1, 6).clone())
for one, two, kind, apart in {pairs!r}:
    x = dict(operands(2, 20, 34))[kind]
    uses, uses2 = [known[one]] * 2, [known[two]] * 2
    t, t2 = table(uses, "cpu"), table(uses2, "cpu")
    assert t.common is not None and t2.common is not None
    shape = LaunchShape(64, 4, 64, 32, 1, known=True, apart=apart)
    first, second = quantize_both(x, t, key, t2, key.at(5), torch.float32, shape)
    bad = differences(first, reference(x, uses, key)) + differences(second, reference(x.mT, uses2, key.at(5)))
    assert not bad, (one, two, kind, bad)
"""


@pytest.mark.parametrize(
    "pairs",
    [
        [
            ("element=e2m1 stochastic", "hadamard 16 fixed", "special", True),
            ("stochastic 3", "hadamard 8 random", "bf16", False),
            ("element=int4 stochastic", "bf16 rotated", "special", False),
            ("scale=e8m0", "element=e4m3 stochastic", "infinite", True),
        ],
        [
            ("hadamard 4 fixed", "hadamard 32 random", "bf16", True),
            ("stochastic 16", "rounding=nearest_away", "special", False),
            ("encode one quantized True None", "gain, tensor scale", "infinite", True),
            ("delayed", "ocp", "special", True),
        ],
        [
            ("if4 stochastic", "outer stochastic", "special", True),
            ("quest", "4 over 6 square", "ties", False),
            ("eden", "eden", "special", True),
            ("two lists", "a list", "special", False),
        ],
    ],
)
def test_options_that_all_members_have_are_compiled(pairs: list[tuple[str, str, str, bool]]) -> None:
    """Where the table of a launch has equal rows, its kernel knows them."""
    run(KNOWN.format(pairs=pairs))


MATRICES = """
from dataclasses import replace
import torch
from dse.fused import quantize_both, table
from dse.fused import launch
from dse.numerics.gemm import Gemm
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, large_rotations, operands, options
known = dict(options()) | dict(large_rotations())
names, others = {names!r}, {others!r}
count, matrices = len(names), 3
launch._AXIS = {axis}  # programs on the second and third axis of a grid
x = dict(operands(count * matrices, 20, 34))["infinite"]
key = Key(clock(count), 3, 2, matrices=matrices)
def alone(x, uses, key):
    found = []
    for i, (quantizer, rotation) in enumerate(uses):
        own, gemm = replace(key, clock=key.clock[i]), Gemm(quantizer, quantizer, rotation)
        xi = x[matrices * i : matrices * (i + 1)]
        all_of_them = quantizer(gemm.turn(xi, gemm.basis(xi, own.at(key.point & ~1))), own)
        alphas = [None] * matrices if all_of_them.alpha is None else all_of_them.alpha
        found += [type(all_of_them)(v, a) for v, a in zip(all_of_them.values, alphas)]
    return found
uses, uses2 = [known[n] for n in names], [known[n] for n in others]
shape = launch.LaunchShape(64, 4, 64, 32, 1, known={known}, apart={known})
first, second = quantize_both(x, table(uses, "cpu"), key, table(uses2, "cpu"), key.at(5), torch.float32, shape)
bad = differences(first, alone(x, uses, key)) + differences(second, alone(x.mT, uses2, key.at(5)))
assert not bad, bad
"""


@pytest.mark.parametrize(
    ("names", "others", "known", "axis"),
    [
        (["block=16 tile=2", "block=32 tile=32", "stochastic 16"], ["hadamard 16 random", "gain", "hadamard 4 random"],
         False, 65535),
        (["hadamard 32 random"] * 2, ["hadamard 8 fixed"] * 2, True, 3),
    ],
    ids=["mixed", "alike, and more than a grid's axis holds"],
)  # fmt: skip
def test_members_of_several_matrices(names: list[str], others: list[str], known: bool, axis: int) -> None:
    """Samples and heads of attention: one launch, scales of each matrix, random bits of one operand of all rows."""
    run(MATRICES.format(names=names, others=others, known=known, axis=axis))


CONVERTED = """
import torch
from dse.fused import quantize, quantize_both, table
from dse.numerics.random import Key
from tests.kernels.cases import clock, differences, large_rotations, operands, options, reference
known = dict(options()) | dict(large_rotations())
one = Key(clock(2), 3, 2)
def check(names, x, dtype):
    uses = [known[n] for n in names]
    t = table(uses, "cpu")
    first, second = quantize_both(x, t, one, t, one.at(5), dtype)
    bad = differences(first, reference(x, uses, one)) + differences(second, reference(x.mT, uses, one.at(5)))
    assert not bad, (names, bad)
    shared = first.values.data_ptr() == second.values.data_ptr()
    return shared, first.values.data_ptr() == x.data_ptr()
kinds = dict(operands(2, 20, 36))
for x in (kinds["special"], kinds["special"].mT):
    assert check(["block=16 tile=16"] * 2, x, torch.float32) == (False, False)  # random bits
    assert check(["square", "bf16"], x, torch.float32) == (True, False)
    assert check(["bf16", "bf16"], x, torch.bfloat16) == (True, False)
    assert check(["bf16", "bf16"], x.bfloat16(), torch.bfloat16) == (True, True)
    assert check(["identity", "identity"], x, torch.float32) == (True, True)
    assert check(["identity", "bf16"], x, torch.float32) == (True, False)
    assert check(["identity", "bf16 rotated"], x, torch.float32) == (False, False)
"""


def test_work_that_is_not_needed_is_not_done() -> None:
    """Square tiles are quantized once for both operands, and operands that nobody changes are not copied."""
    run(CONVERTED)


def run(program: str) -> None:
    """Runs a program under Triton's interpreter, in a process of its own."""
    interpreted("-c", "from math import inf, nan\n" + program)
