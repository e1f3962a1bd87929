"""exp and log, gradients through quantizers and inverse rotations on a GPU: the CPU reference's bits.

Also a script that prints a summary and times gradients against a copy: python tests/gpu/test_gradients_on_cuda.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.fused import Use, gradient_table, table, turn_back, vjp
from dse.kernels import available
from dse.kernels.exp_log import exp, log
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Identity
from dse.numerics.random import Key
from dse.numerics.techniques.rotations import Hadamard, Rotation
from dse.recipes import RECIPES
from tests.kernels import gradient_cases
from tests.kernels.cases import clock, same

try:
    import pytest

    pytestmark = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (torch.cuda.is_available() and available()), reason="needs a CUDA device and Triton"),
    ]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass


def test_exp_and_log_are_the_cpus() -> None:
    """A sixteenth of all floats, in plain torch; the kernels' twin is compared with it through the gradients."""
    for start in range(-(2**31), 2**31, 2**26):
        bits = torch.arange(start, min(start + 2**22, 2**31), dtype=torch.int64).to(torch.int32)
        x = bits.view(torch.float32)
        for f in (exp, log):
            assert same(f(x.cuda()).cpu(), f(x)), (f.__name__, start)


def test_gradients_are_the_references() -> None:
    assert gradient_cases.main([]) == 0


def test_inverse_rotations_are_the_references() -> None:
    rotations: Sequence[Rotation | None] = [
        None, Hadamard(2), Hadamard(16, "fixed"), Hadamard(64, "none"), Hadamard(128), Hadamard(8), Hadamard(256)
    ]  # fmt: skip
    count, columns = len(rotations), 300
    rows = table([Use(Identity(), rotation) for rotation in rotations], "cuda")
    key = Key(clock(count), 3, 1)
    x = torch.randn(count, 150, rows.padded(columns), generator=torch.Generator().manual_seed(0))
    x[:, 2, 5], x[:, 3], x[:, 4, 7] = -0.0, 0.0, torch.inf
    for source, dtype in ((x, torch.float32), (x.bfloat16(), torch.float32), (x.mT.contiguous().mT, torch.bfloat16)):
        found = turn_back(source.cuda(), rows, replace(key, clock=key.clock.cuda()), columns, dtype).cpu()
        for i, rotation in enumerate(rotations):
            gemm, width = Gemm(rotation=rotation), columns + (-columns % rotation.size if rotation else 0)
            turned = source[i].float()[:, :width]
            basis = gemm.basis(turned, replace(key, clock=key.clock[i]).at(0))
            wanted = gemm.back(turned, basis)[:, :columns].to(dtype)
            assert same(found[i].float(), wanted.float()), (rotation, dtype)


def milliseconds(run: Callable[[], object]) -> float:
    """The best of three times of ten runs, on the device."""
    run()
    times = []
    for _ in range(3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(10):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 10)
    return min(times)


def timings(size: int = 8192) -> None:
    """Gradients [size, size] of the gallery's derivatives, and their parts, against reading X and G and writing dX."""
    key = Key(clock(1).cuda(), 3, 0)
    x = torch.randn(1, size, size, device="cuda")
    g, out = torch.randn_like(x), torch.empty_like(x)
    base = milliseconds(lambda: torch.add(x, g, out=out))
    print(f"x + g, FP32 {size} x {size}: {base:.3f} ms")
    quartet = RECIPES["quartet"].fprop
    cases: list[tuple[str, Callable[[], Tensor]]] = []
    blocks: dict[str, tuple[object, Rotation | None, bool]] = {
        "wang_fp4 W (DGE, rows)": (RECIPES["wang_fp4"].fprop.rhs, None, False),
        "DGE, blocks of 16": (gradient_cases.BASE, None, False),
        "quartet X (QuEST, mask), turned": (quartet.lhs, quartet.rotation, True),
        "quartet X, not turned": (quartet.lhs, quartet.rotation, False),
    }
    for name, (quantizer, rotation, turned) in blocks.items():
        assert isinstance(quantizer, BlockQuantizer)
        own = gradient_table([Use(quantizer, rotation)], "cuda")
        cases.append((name, lambda own=own, turned=turned: vjp(x, g, own, key, turned)))  # type: ignore[misc]
    rows = table([Use(Identity(), quartet.rotation)], "cuda")
    cases.append(("turned back", lambda: turn_back(g, rows, key, size)))
    cases.append(("exp, plain torch", lambda: exp(x)))
    for name, run in cases:
        taken = milliseconds(run)
        print(f"{name}: {taken:.3f} ms, {taken / base:.2f} times x + g", flush=True)


if __name__ == "__main__":
    begin = time.time()
    for check in (test_exp_and_log_are_the_cpus, test_inverse_rotations_are_the_references):
        check()
        print(f"{check.__name__}: equal, {time.time() - begin:.0f} s", flush=True)
    timings()
    wrong = gradient_cases.main([])
    print(f"{time.time() - begin:.0f} s")
    sys.exit(wrong > 0)
