"""Benchmark of the quantizer kernels against a copy of the tensor, the reference, its compilation, and other programs.

Kernels are timed as a pack runs them: many launches in one CUDA graph, over operands that together exceed the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor

from dse.bench.measurements import Measurement
from dse.bench.quantizers import TimedCall, kernel_jobs, reference_jobs
from dse.kernels import available
from dse.kernels.availability import Gpu
from dse.kernels.compile_pool import CompilePool
from dse.kernels.recording import OnKernel, recording

_LAUNCHES, _REPLAYS = 20, 5
_JOBS = 15
"""Processes that compile kernels."""
_SIZE = 8192
"""Side of the operand on a GPU."""
_WAIT = 600.0
"""Seconds for that, at most."""
_BYTES = 256 << 20
"""Of the operands that a measurement cycles through: several times a GPU's cache."""


def measure(device: str, size: int | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """The rows of a square operand of ``size`` (8192; on a CPU 256) as dictionaries."""
    return [asdict(row) for row in rows(device, size, quick)]


def rows(device: str, size: int | None = None, quick: bool = False) -> Iterator[Measurement]:
    """Milliseconds per variant, ``floor``: a copy of the BF16 tensor; first the copy and a launch's cost on the host.

    Kernels run on a CPU only under Triton's interpreter, and for the five figures of the default tile.
    """
    cuda = device.startswith("cuda")
    size = size or (_SIZE if cuda else 256)
    operands = {torch.bfloat16: _operands(device, size, torch.bfloat16)}
    out = torch.empty_like(operands[torch.bfloat16][0])
    floor = seconds(lambda x: out.copy_(x), operands[torch.bfloat16]) * 1e3
    yield Measurement("copy", "", floor, "ms", note=f"BF16 {size} x {size}")
    kernels = list(kernel_jobs(device, quick)) if available() else []
    kernels = kernels if cuda else kernels[:5]
    if kernels:
        yield Measurement("launch", "host", _host(kernels[0].call, operands[torch.bfloat16][0]) * 1e6, "us")
    for job in (*kernels, *reference_jobs(device, quick or not cuda)):
        if job.dtype not in operands:
            operands[job.dtype] = _operands(device, size, job.dtype)
        yield _timed(job, operands[job.dtype], floor)


def _timed(job: TimedCall, operands: Sequence[Tensor], floor: float) -> Measurement:
    try:
        ms = seconds(job.call, operands) * 1e3
    except Exception as error:  # noqa: BLE001 - one variant must not stop the others
        return Measurement(
            job.figure, job.variant, None, "ms", floor, note=f"{type(error).__name__}: {str(error)[-200:]}"
        )
    return Measurement(job.figure, job.variant, ms, "ms", floor, ms / floor, target=job.target, better="lower")


def _operands(device: str, size: int, dtype: torch.dtype) -> list[Tensor]:
    """Different tensors [1, size, size] of one generator."""
    generator = torch.Generator(device).manual_seed(0)
    each = size * size * dtype.itemsize
    count = max(2, min(64, -(-_BYTES // each))) if device.startswith("cuda") else 1
    return [torch.randn(1, size, size, device=device, generator=generator).to(dtype) for _ in range(count)]


def seconds(call: Callable[[Tensor], object], operands: Sequence[Tensor]) -> float:
    """Of one call: in a CUDA graph of many where that works, else between events; on a CPU by the clock."""
    if not operands[0].is_cuda:
        return float(median(_clocked(call, operands[0]) for _ in range(3)))
    count = max(_LAUNCHES, len(operands))
    calls = [operands[i % len(operands)] for i in range(count)]
    call(calls[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for x in calls:
                call(x)
    except RuntimeError:  # not capturable
        torch.cuda.synchronize()
        return _between(lambda: call(calls[0]))
    graph.replay()
    return float(median(_between(graph.replay) for _ in range(_REPLAYS))) / count


def _clocked(call: Callable[[Tensor], object], x: Tensor) -> float:
    start = time.perf_counter()
    call(x)
    return time.perf_counter() - start


def _between(run: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _host(call: Callable[[Tensor], object], x: Tensor) -> float:
    """Seconds of the host for a plain launch."""
    x = x[:, :256, :256].contiguous()
    for _ in range(3):
        call(x)
    count = 100 if x.is_cuda else 1
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        call(x)
    return (time.perf_counter() - start) / count


def compile_ahead(gpu: Gpu, size: int, quick: bool, on_kernel: OnKernel) -> None:
    """Has every kernel of a square operand of ``size`` compiled by ``on_kernel``."""
    with recording(gpu, on_kernel):
        for job in kernel_jobs("meta", quick):
            with suppress(Exception):  # the measurement reports it
                job.call(torch.empty(1, size, size, device="meta", dtype=job.dtype))


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles the kernels, then prints each row as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m dse.bench.kernels", description=__doc__)
    text = "side of the square operand (8192, on a CPU 256); quick: fewer variants"
    parser.add_argument("words", nargs="*", type=_word, metavar="SIZE|quick", help=text)
    words = parser.parse_args(arguments).words
    quick, size = "quick" in words, next((word for word in words if word != "quick"), None)
    device, begin = "cuda" if torch.cuda.is_available() else "cpu", time.time()
    if device == "cuda":
        with CompilePool(_JOBS) as pool:
            compile_ahead(Gpu.of(device), size or _SIZE, quick, pool.submit)
            pool.wait(_WAIT)
        print(torch.cuda.get_device_name(), torch.__version__, f"compiled in {time.time() - begin:.0f} s", flush=True)
    for row in rows(device, size, quick):
        print(row.line(), flush=True)
    print(f"{time.time() - begin:.0f} s")


def _word(text: str) -> int | str:
    return text if text == "quick" else int(text)


if __name__ == "__main__":
    main()
