"""The nets' fused kernels on a GPU: against float64, and their time against torch's forms and a copy.

Also a script: python tests/gpu/test_fused_on_cuda.py
"""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if __name__ == "__main__":  # a bare machine has no installed package
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.tasks.nets import fused
from dse.tasks.nets.attention import Core, attention
from dse.tasks.nets.fused.gate import gate
from dse.tasks.nets.fused.norm import add_norm, rms_norm
from dse.tasks.nets.fused.turn import turn
from dse.tasks.nets.heads import multihead
from dse.tasks.nets.rotary import rotary_table, rotate
from tests.tasks.fused_checks import CHECKS, EPS

try:
    import pytest

    pytestmark = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (torch.cuda.is_available() and fused.installed()), reason="needs CUDA and Triton"),
    ]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

E, B, T, C, HIDDEN, HEADS = 64, 16, 128, 128, 352, 4


class Timing(NamedTuple):
    """``ours`` and ``theirs`` take stacks of ``shapes``; traffic: of the pass forward, and of both, in reads or writes
    of one FP32 tensor of the first shape."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    forward: float
    both: float


def timings() -> dict[str, Timing]:
    x, w, h = (E, B, T, C), (E, C), (E, B, T, HIDDEN)
    table = rotary_table(T, C // HEADS).cuda()

    def heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(-3, -2) for y in (q, k, v))
        return attention(rotate(q, table), rotate(k, table), v, True).transpose(-3, -2).flatten(-2)

    def turned(q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        parts = (y.unflatten(-1, (HEADS, -1)).transpose(-3, -2) for y in (q, k))
        return tuple(rotate(y, table).bfloat16() for y in parts)

    def normed(x: Tensor, w: Tensor) -> Tensor:
        return F.rms_norm(x, (C,), w, EPS)

    def added(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        x = x + y
        return x, F.rms_norm(x, (C,), w, EPS)

    def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *stacks: torch.vmap(function)(*stacks)

    everybody = table.expand(E, *table.shape)
    return {
        "RMSNorm": Timing(mapped(lambda x, w: rms_norm(x, w, EPS)), mapped(normed), (x, w), 2, 5),
        "add, RMSNorm": Timing(mapped(lambda x, y, w: add_norm(x, y, w, EPS)), mapped(added), (x, x, w), 4, 8),
        "SwiGLU": Timing(mapped(gate), mapped(lambda a, b: F.silu(a) * b), (h, h), 3, 8),
        "rotary": Timing(lambda q, k: turn(q, k, everybody, torch.bfloat16), mapped(turned), (x, x), 3, 6),
        "heads": Timing(
            mapped(lambda q, k, v: multihead(Core(), q, k, v, HEADS, table, True)), mapped(heads), (x,) * 3, 8, 18
        ),
    }


def replayed(function: Callable[[], Any], repeats: int = 20) -> float:
    """Milliseconds of a run inside a CUDA graph, the best of three."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    best = float("inf")
    for _ in range(3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            graph.replay()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / repeats)
    return best


def passes(function: Callable[..., Any], operands: list[Tensor], grads: list[Tensor]) -> tuple[float, float]:
    """Milliseconds forward, and forward and backward."""

    def train() -> Any:
        y = function(*operands)
        return torch.autograd.grad([y] if isinstance(y, Tensor) else list(y), operands, grads)

    def infer() -> None:
        with torch.no_grad():
            function(*operands)

    return replayed(infer), replayed(train)


def measure(name: str, of: Timing, dtype: torch.dtype = torch.float32) -> str:
    """One line: errors against torch's form in `dtype`, and times."""
    g = torch.Generator("cuda").manual_seed(0)
    operands = [torch.randn(s, device="cuda", generator=g).to(dtype).requires_grad_() for s in of.shapes]
    y, z = (f(*operands) for f in (of.ours, of.theirs))
    y, z = ([v] if isinstance(v, Tensor) else list(v) for v in (y, z))
    grads = [torch.randn(v.shape, device="cuda", generator=g).to(v.dtype) for v in y]
    assert [v.dtype for v in y] == [u.dtype for u in z]
    laid = [v.reshape(u.shape) if v.shape == u.shape else u for v, u in zip(y, z, strict=True)]
    off = max(
        float((v.float() - u.float()).detach().norm() / u.detach().float().norm()) for v, u in zip(laid, z, strict=True)
    )
    theirs_grads = [d.view(u.shape) for d, u in zip(grads, z, strict=True)]
    del y, z, laid
    ours, theirs = passes(of.ours, operands, grads), passes(of.theirs, operands, theirs_grads)
    floor = replayed(lambda: operands[0].detach().clone()) / 2
    floors = (of.forward * floor, of.both * floor)
    parts = [
        f"{what} {a:.3f} ms (torch {b:.3f}, {b / a:.1f} x; floor {c:.3f}, {a / c:.2f} x)"
        for what, a, b, c in zip(("forward", "both"), ours, theirs, floors, strict=True)
    ]
    return f"{name:14s} differs by {off:.1e}; {'; '.join(parts)}"


if "pytest" in sys.modules:

    @pytest.mark.parametrize("name", CHECKS)
    def test_the_kernel_is_torchs_form(name: str) -> None:
        CHECKS[name]("cuda")

    @pytest.mark.parametrize("name", ["RMSNorm", "add, RMSNorm", "SwiGLU", "rotary", "heads"])
    def test_it_runs_in_a_graph(name: str) -> None:
        measure(name, timings()[name])


if __name__ == "__main__":
    warnings.simplefilter("error", UserWarning)
    began = time.perf_counter()
    print(torch.cuda.get_device_name(), torch.__version__)
    jobs: dict[str, Callable[[], object]] = {name: lambda name=name: CHECKS[name]("cuda") for name in CHECKS}
    jobs |= {f"time of {name}": lambda name=name, t=t: measure(name, t) for name, t in timings().items()}
    bf16 = torch.bfloat16
    jobs |= {f"time of {name} in BF16": lambda name=name, t=t: measure(name, t, bf16) for name, t in timings().items()}
    failed = 0
    for title, job in jobs.items():
        try:
            print(f"{title}: {job()}", flush=True)
        except Exception:  # noqa: BLE001 - the summary shows all of them
            failed += 1
            print(f"{title}: FAILED\n{traceback.format_exc(limit=-3)}", flush=True)
    print(f"{failed} failed, {time.perf_counter() - began:.0f} s")
    sys.exit(failed > 0)
