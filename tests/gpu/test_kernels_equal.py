"""The kernels give the reference's bits on a GPU, over a grid of options, shapes, strides and special values.

Also a script that prints a summary: python tests/gpu/test_kernels_equal.py [JOBS [CASE ...]]
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.fused import Use, exact_in_bf16, exact_in_fp16, quantize, quantize_both, structure, table
from dse.fused.checked import all_kernels
from dse.fused.launch import LaunchShape
from dse.fused.support import in_groups
from dse.kernels import available
from dse.numerics.random import Key
from tests.kernels.cases import (
    block_options,
    clock,
    corrected_options,
    differences,
    general_options,
    grid_options,
    large_rotations,
    micro_options,
    operands,
    options,
    recipes,
    reference,
    structures,
)

try:
    import pytest

    pytestmark = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (torch.cuda.is_available() and available()), reason="needs a CUDA device and Triton"),
    ]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass


class Case(NamedTuple):
    """Members, the shape of their operands, and the type of the values."""

    name: str
    members: tuple[tuple[str, Use], ...]
    rows: int
    columns: int
    dtype: torch.dtype = torch.float32
    shape: LaunchShape | None = None


@all_kernels()
def cases() -> dict[str, Case]:
    """Everything in one stack, aligned and ragged, and families by themselves (other compiled variants)."""
    every = tuple(options())
    published = structures(recipes())
    exact = tuple((n, u) for n, u in (*every, *published["core"]) if exact_in_bf16(u))

    def some(*words: str) -> tuple[tuple[str, Use], ...]:
        return tuple((n, u) for n, u in exact if any(w in n for w in words))

    nearest = tuple((n, u) for n, u in exact if u.quantizer.random_bits == 0 and u.rotation is None)
    found = [
        Case("everything", every, 37, 50),
        Case("everything, BF16", exact, 64, 160, torch.bfloat16),
        Case("nearest", nearest, 48, 80, torch.bfloat16),
        Case("nearest, repeated tiles", nearest, 150, 272, torch.bfloat16, LaunchShape(repeat=4)),
        Case("elements", some("element=", "stochastic "), 33, 272, torch.bfloat16),
        Case("recipes", published["core"], 128, 64),
        Case("rotations", some("hadamard 2", "hadamard 4", "hadamard 8", "hadamard 16"), 48, 64, torch.bfloat16),
        Case("large rotations", tuple(large_rotations()), 9, 1500),
        Case("one", some("element=e2m1")[:1], 1, 1, torch.bfloat16),
        Case("tiles", some("block="), 70, 70, torch.bfloat16),
    ]
    for program, uses in structures(
        (*general_options(), *corrected_options(), *grid_options(), *micro_options(), *recipes())
    ).items():
        if program != "core":
            found.append(Case(program, uses, 37, 200))
            exact = tuple((n, u) for n, u in uses if exact_in_bf16(u))
            if exact and program.startswith(("tile 1, block 16", "tile 1, block 32", "tile 16", "rotation")):
                found.append(Case(f"{program}, BF16", exact, 128, 160, torch.bfloat16))
            lists = tuple((n, u) for n, u in uses if "list" in program and in_groups(u))
            if lists:  # beside others they go another way
                found.append(Case(f"{program}, in groups", lists, 37, 200))
    sevenths = tuple((n, u) for n, u in recipes() if exact_in_fp16(u) and not exact_in_bf16(u) and u.rotation is None)
    one = [m for m in sevenths if structure(m[1]) == structure(sevenths[0][1])]
    found.append(Case("sevenths, FP16", tuple(one), 128, 160, torch.float16))
    shapes = (LaunchShape(known=True), LaunchShape(known=True, apart=False, across_positions=128, across=128))
    for i, name in enumerate(KNOWN):
        use = (dict(every) | dict(block_options()))[name]
        dtype = torch.bfloat16 if exact_in_bf16(use) else torch.float32
        found.append(Case(f"known: {name}", ((name, use),) * 2, 48 + i % 2, 96 + 4 * i, dtype, shapes[i // 2 % 2]))
    for names in LARGE:
        uses = [dict(every)[name] for name in names]
        dtype = torch.bfloat16 if all(map(exact_in_bf16, uses)) else torch.float32
        found.append(Case(f"large: {', '.join(names)}", tuple(zip(names, uses, strict=True)), 520, 1040, dtype))
    return {case.name: case for case in found}


KNOWN = (
    "element=e2m1", "element=e2m1 stochastic", "stochastic 3", "hadamard 16 fixed", "hadamard 16 random",
    "hadamard 128 random", "block=32 tile=2", "encode one quantized True None", "ocp", "element=int4 stochastic",
    "delayed", "square",
    *(name for name, _ in block_options()),
)  # fmt: skip
"""Options that kernels are compiled for."""

LARGE = (
    *((name, name) for name in KNOWN[:12]), ("element=e2m1 stochastic", "stochastic 3"), ("element=e2m1", "ocp"),
    ("hadamard 16 random", "element=e2m1 stochastic"), ("delayed", "element=int4 stochastic"),
)  # fmt: skip
"""Members of operands so large that ``dse.fused.launch`` takes other tiles by itself: of one recipe, and of two."""


@all_kernels()
def check(case: Case, device: str, limit: int = 10) -> list[tuple[int, list[str]]]:
    """``compare``, with all kernels."""
    return list(compare(case, device, limit))


def compare(case: Case, device: str, limit: int) -> Iterator[tuple[int, list[str]]]:
    """For every operand: how many comparisons, and a line for each that differs."""
    names, uses = [n for n, _ in case.members], [u for _, u in case.members]
    one = table(uses, device)
    other = table(uses[::-1], device)
    for kind, x in list(operands(len(uses), case.rows, case.columns))[:limit]:
        start = memories(len(uses))
        keys = [Key(clock(len(uses)), 3, point, memory=start.clone()) for point in (2, 5)]
        wanted = reference(x, uses, keys[0])
        turned = reference(x.mT, uses[::-1], keys[1])
        there = x.to(device)
        padded = torch.zeros(*x.shape[:2], 2 * x.shape[2], dtype=x.dtype, device=device)
        padded[..., ::2] = there
        layouts = {"rows": there, "columns": there.mT.contiguous().mT, "strided": padded[..., ::2]}
        count, lines = 0, []
        for layout, y in layouts.items():
            own = [replace(k, clock=k.clock.to(device), memory=start.to(device)) for k in keys]
            got = quantize(y, one, own[0], case.dtype, case.shape)
            lines += list(compared(f"{kind} {layout}", names, differences(got, wanted), keys[0], own[0]))
            own = [replace(k, memory=start.to(device)) for k in own]
            first, second = quantize_both(y, one, own[0], other, own[1], case.dtype, case.shape)
            lines += list(compared(f"{kind} {layout} both", names, differences(first, wanted), keys[0], own[0]))
            bad = differences(second, turned)
            lines += list(compared(f"{kind} {layout} both, second", names[::-1], bad, keys[1], own[1]))
            count += 3 * len(uses)
        yield count, [f"{case.name}: {line}" for line in lines]


def memories(members: int) -> Tensor:
    """Held tensor scales: some empty, some not finite (from a checkpoint of an older version)."""
    values = torch.tensor([0.0, 1.5, 3.0, torch.nan, torch.inf])
    return values.repeat(members)[:members, None].expand(-1, 6).clone()


def compared(what: str, names: Sequence[str], bad: list[tuple[int, str]], want: Key, got: Key) -> Iterator[str]:
    for i, line in bad:
        yield f"{what}: {names[i]}: {line}"
    assert want.memory is not None
    assert got.memory is not None
    moved = want.memory[:, want.point], got.memory[:, want.point].cpu()
    for i in ((moved[0] != moved[1]) & ~(moved[0].isnan() & moved[1].isnan())).nonzero().flatten().tolist():
        yield f"{what}: {names[i]}: memory {moved[1][i].item()!r} for {moved[0][i].item()!r}"


def summary(name: str, device: str) -> tuple[str, int, list[str], float]:
    """In a process of its own: compilation takes most of the time."""
    torch.set_num_threads(1)
    start, count, lines = time.time(), 0, []
    try:
        for n, found in check(cases()[name], device):
            count, lines = count + n, lines + found
    except Exception:  # noqa: BLE001 - one case must not stop the others
        lines.append(f"{name}: " + traceback.format_exc()[-1500:])
    return name, count, lines, time.time() - start


try:

    @pytest.mark.parametrize("name", list(cases()))
    def test_the_kernels_give_the_references_bits(name: str) -> None:
        assert not [line for _, lines in check(cases()[name], "cuda") for line in lines]

except NameError:
    pass


if __name__ == "__main__":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    begin, total, wrong = time.time(), 0, 0
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(summary, name, device) for name in sys.argv[2:] or cases()]):
            name, count, lines, seconds = future.result()
            total, wrong = total + count, wrong + len(lines)
            print(
                f"{name}: {count} operands, {len(lines)} mismatches, {seconds:.0f} s",
                *lines[:6],
                sep="\n  ",
                flush=True,
            )
    print(f"{total} quantized operands on {device}: {wrong} mismatches, {time.time() - begin:.0f} s")
    sys.exit(wrong > 0)
