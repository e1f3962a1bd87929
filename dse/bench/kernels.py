"""Times the quantizer kernels against a copy of the same tensor, the reference, its compilation, and peers.

python -m dse.bench.kernels [SIZE] [quick]
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from torch import Tensor

from dse.block import BlockQuantizer
from dse.formats import E2M1, E8M0, UE4M3
from dse.kernels import Use, quantize, quantize_both, table
from dse.kernels.launch import DEFAULT, Shape
from dse.quantizer import Quantizer
from dse.random import Key
from dse.recipes import RECIPES
from dse.techniques.rotations import Hadamard
from dse.techniques.rounding import Stochastic, TowardZero
from dse.techniques.tensor_scales import Current

SHAPES = {
    "default": DEFAULT,
    "small": Shape(positions=128, across_positions=256, across=256),
    "large": Shape(positions=512, across_positions=512, across=512, warps=8),
    "exchange": Shape(store=16),
    "small exchange": Shape(positions=128, across_positions=256, across=128, store=16),
    "repeat": Shape(positions=128, across_positions=256, across=256, repeat=4),
}
"""Tile shapes to choose from."""

_NEAREST = BlockQuantizer(E2M1, UE4M3, 16)
_RANDOM = replace(_NEAREST, rounding=Stochastic(8))
_TURN = Hadamard(16, "random")
VARIANTS: dict[str, tuple[Use, float | None]] = {
    "nearest": (Use(_NEAREST, None), 1.10),
    "Hadamard 16": (Use(_NEAREST, _TURN), 1.15),
    "stochastic 8": (Use(_RANDOM, None), 1.12),
    "stochastic 8, Hadamard 16": (Use(_RANDOM, _TURN), 1.20),
    "mxfp4": (Use(BlockQuantizer(E2M1, E8M0, 32, constant=4.0, scale_rounding=TowardZero()), None), None),
    "tile 16": (Use(replace(_NEAREST, tile=16), None), None),
    "nvfp4 X": (Use(replace(_NEAREST, tensor_scale=Current()), None), None),
    "nvfp4 W, tile 16": (Use(replace(_NEAREST, tile=16, tensor_scale=Current()), None), None),
    "nvfp4 wgrad G": (Use(replace(_RANDOM, tensor_scale=Current()), Hadamard(16, "fixed")), None),
    "Hadamard 128": (Use(_NEAREST, Hadamard(128)), None),
}
"""Operand, and the target as a multiple of the copy's time."""


def milliseconds(run: Callable[[], object], count: int) -> float:
    """Median time of a call between CUDA events, the 50 MB cache flushed before each."""
    flush = torch.empty(64 << 20, dtype=torch.int32, device="cuda")
    run()
    run()
    times = []
    for _ in range(count):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(median(times))


def measure(device: str, size: int, quick: bool = False) -> list[dict[str, Any]]:
    """Rows {name, shape, ms, ratio, target} or {name, shape, error}: see ``rows``."""
    return list(rows(device, size, quick))


def rows(device: str, size: int, quick: bool) -> Iterator[dict[str, Any]]:
    """One row per variant and tile shape; ``ratio`` to a copy of the same BF16 tensor in the same run."""
    if not device.startswith("cuda"):
        raise ValueError("kernel times need a CUDA device")
    x, key = operand(device, size)
    y, count = torch.empty_like(x), 20 if quick else 50
    copy = milliseconds(lambda: y.copy_(x), count)
    yield row("copy", "", copy, copy, 1.0)
    for name, shape, target, run in _runs(x, key, quick):
        try:
            yield row(name, shape, milliseconds(run, count), copy, target)
        except Exception as error:  # noqa: BLE001 - one variant must not stop the others
            yield {"name": name, "shape": shape, "error": f"{type(error).__name__}: {str(error)[-300:]}"}
            traceback.print_exc(limit=2)


def operand(device: str, size: int) -> tuple[Tensor, Key]:
    x = torch.randn(1, size, size, device=device, generator=torch.Generator(device).manual_seed(0)).bfloat16()
    return x, Key(torch.tensor([[1, 2]], device=device), 3, 2)


def compile_ahead(part: int, parts: int, quick: bool) -> None:
    """Every ``parts``-th variant once, on a small operand, so that Triton's cache on disk has it."""
    x, key = operand("cuda", 1024)
    kernels = [run for name, _, _, run in _runs(x, key, quick) if "reference" not in name and "torchao" not in name]
    for run in kernels[part::parts]:
        with suppress(Exception):  # the measurement reports it
            run()
    torch.cuda.synchronize()


def row(name: str, shape: str, ms: float, copy: float, target: float | None) -> dict[str, Any]:
    return {"name": name, "shape": shape, "ms": round(ms, 4), "ratio": round(ms / copy, 3), "target": target}


def _runs(x: Tensor, key: Key, quick: bool) -> Iterator[tuple[str, str, float | None, Callable[[], object]]]:
    """(name, tile shape, target, call)."""
    wide = x.float()
    for label, shape in SHAPES.items():
        for name, (use, target) in list(VARIANTS.items())[: 4 if quick else None]:
            t = table([use], x.device)
            yield name, label, target, _one(x, t, key, shape)
        for name in ("nearest", "stochastic 8, Hadamard 16"):
            t = table([VARIANTS[name][0]], x.device)
            yield f"{name}, transposed", label, None, _one(x.mT, t, key, shape)
            yield f"{name}, both axes", label, 1.75, _two(x, t, key, shape)
    t = table([VARIANTS["nearest"][0]], x.device)
    yield "nearest, FP32 in", "default", None, _one(wide, t, key, DEFAULT)
    yield "nearest, FP32 in, both axes", "default", None, _two(wide, t, key, DEFAULT)
    solo = Key(key.clock[0], 3, 2)
    for name in ("nvfp4", "mxfp4"):
        quantizer = RECIPES[name].fprop.lhs
        yield f"eager reference {name} X", "", None, partial(quantizer, wide[0], solo)
        if not quick:
            compiled = torch.compile(_reference(quantizer))
            yield f"compiled reference {name} X", "", None, partial(compiled, x[0])
    yield from _peers(x[0])


def _reference(quantizer: Quantizer) -> Callable[[Tensor], Tensor]:
    return lambda v: quantizer(v.float()).values.bfloat16()


def _one(x: Tensor, t: Any, key: Key, shape: Shape) -> Callable[[], object]:
    return lambda: quantize(x, t, key, torch.bfloat16, shape)


def _two(x: Tensor, t: Any, key: Key, shape: Shape) -> Callable[[], object]:
    return lambda: quantize_both(x, t, key, t, key.at(3), torch.bfloat16, shape)


def _peers(x: Tensor) -> Iterator[tuple[str, str, float | None, Callable[[], object]]]:
    """Other emulations, where they can be imported."""
    try:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor
    except ImportError:
        return
    yield "torchao MXFP4 to and from", "", None, lambda: MXTensor.to_mx(x, torch.float4_e2m1fn_x2, 32).dequantize()


if __name__ == "__main__":
    quick, jobs = "quick" in sys.argv, 14
    size = next((int(a) for a in sys.argv[1:] if a.isdigit()), 8192)
    begin = time.time()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        list(pool.map(compile_ahead, range(jobs), [jobs] * jobs, [quick] * jobs))
    print(torch.cuda.get_device_name(), torch.__version__, f"compiled in {time.time() - begin:.0f} s", flush=True)
    for r in rows("cuda", size, quick):
        print(json.dumps(r), flush=True)
