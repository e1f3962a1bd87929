"""Optimizers on a GPU: in a CUDA graph, against the CPU, and their time. Also a script: python tests/gpu/test_...py"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from dse.optim import OPTIMIZERS, Hyper, adam
from dse.optim.layout import Layout, clip
from tests.techniques import fused_adam
from tests.techniques.stacked import LAYOUT, hyper, members, same

try:
    import pytest

    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

SEED = 11


def to(device: str, now: Hyper) -> Hyper:
    """The same numbers on a device."""
    return Hyper(*(number.to(device) for number in now))


def trained(name: str, device: str, graph: bool = False) -> list[Tensor]:
    """Parameters and state of five members after eight steps, one of them at rest now and then; on the CPU."""
    optimizer, p = OPTIMIZERS[name], members(5, SEED).to(device)
    state, g, now = optimizer.state(p, LAYOUT), torch.zeros_like(p), to(device, hyper(5, 0))
    active = torch.ones(5, 1, dtype=torch.bool, device=device)

    def step() -> None:
        optimizer.update(p, g, state, now, LAYOUT, active)

    run = step
    if graph:
        kept, first = p.clone(), {k: v.clone() for k, v in state.items()}
        step()  # compiles
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step()
        p.copy_(kept)
        for k, v in first.items():
            state[k].copy_(v)
        run = recorded.replay
    for n in range(8):
        g.copy_(members(5, SEED + 1 + n))
        active[3] = n % 3 != 1
        run()
    return [t.cpu() for t in (p, *state.values())]


def test_the_fused_kernel_is_the_reference_bit_for_bit() -> None:
    fused_adam.main("cuda")


def test_a_graph_gives_the_eager_bits_and_the_cpu_s_numbers() -> None:
    for name in OPTIMIZERS:
        expected = trained(name, "cpu")
        eager, replayed = trained(name, "cuda"), trained(name, "cuda", graph=True)
        for a, b, c in zip(expected, eager, replayed, strict=True):
            assert same(b, c), name
            if name == "muon_nvfp4":  # a last bit moves roundings to NVFP4
                assert (a - b).norm() <= 0.1 * a.norm()
                continue
            close = 2e-2 if "muon" in name else 1e-5  # devices differ in the last bit of some steps, or in BF16's
            torch.testing.assert_close(a, b, rtol=close, atol=close / 10)


def timing(count: int = 64, width: int = 512, layers: int = 4) -> None:
    """Milliseconds of one step of ``count`` members with a transformer's parameter shapes."""
    shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width), (width,), (width,)] * layers
    layout = Layout.of((f"p{i}", torch.empty(shape)) for i, shape in enumerate(shapes))
    p, g = (torch.randn(count, layout.size, device="cuda") for _ in range(2))
    on, now = torch.ones(count, 1, dtype=torch.bool, device="cuda"), to("cuda", hyper(count, 0))
    other, gradients = torch.empty_like(p), list(layout.views(g).values())
    stacked = [view.clone() for view in gradients]
    work: dict[str, Callable[[], object]] = {
        "copy of p": lambda: other.copy_(p),
        "join": lambda: layout.join(stacked, out=g),
    }
    work |= {"norms": lambda: layout.norms(g), "clip": lambda: clip(g, now.lr * 1e9, layout.norms(g))}
    for name, optimizer in OPTIMIZERS.items():
        state = optimizer.state(p, layout)
        work[name] = partial(optimizer.update, p, g, state, now, layout, on)
    print(f"{count} members of {layout.size:,} parameters, {torch.cuda.get_device_name()}")
    for name, call in work.items():
        _report(name, call)
    with patch.object(adam, "fusible", lambda *_: False):
        _report("adamw unfused", work["adamw"])


def _report(name: str, call: Callable[[], object]) -> None:
    call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        call()
    end.record()
    torch.cuda.synchronize()
    print(f"{name:16s} {begin.elapsed_time(end) / 20:8.3f} ms")


if __name__ == "__main__":
    test_the_fused_kernel_is_the_reference_bit_for_bit()
    test_a_graph_gives_the_eager_bits_and_the_cpu_s_numbers()
    print("graph and eager agree bit for bit, the CPU within rounding")
    timing()
