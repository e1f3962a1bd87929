"""Packs of tasks on a GPU: the CPU's batches, no fallback, the same bits twice and in a CUDA graph. Also a script."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __name__ == "__main__":  # a bare machine has no installed package
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.tasks import TASKS, Task
from dse.tasks.base import Batch, to_device
from dse.tasks.data.images import Images
from dse.tasks.nets.attention import attention
from tests.tasks.packing import Pack, awake

try:
    import pytest

    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
except ModuleNotFoundError:
    pass

CASES: dict[str, Task[Any]] = {
    "regression": TASKS["regression"](),
    "image": TASKS["image"](),
    "image-vit": TASKS["image"](net="vit"),
    "diffusion": TASKS["diffusion"](),
    "diffusion-edm": TASKS["diffusion"](process="edm"),
    "lm": TASKS["lm"](),
}
MEMBERS, SIZE = 6, 16


def data_of(task: Task[Any]) -> Any:
    """The task's data; for images, noise of their shape (a bare machine has no digits)."""
    if task.name not in ("image", "diffusion"):
        return task.load()
    g = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 17, (500, 8, 8), generator=g, dtype=torch.uint8), torch.randint(10, (500,), generator=g)
    return Images(x, y, x[:60], y[:60], 8.0, 4.9)


def members(task: Task[Any], data: Any, device: str) -> list[torch.nn.Module]:
    made = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        made.append(awake(task.model(data)).to(device))
    return made


def drawn(task: Task[Any], data: Any, device: str) -> Batch:
    return task.batch(to_device(data, device), *clock(device), SIZE)


def clock(device: str) -> tuple[Tensor, Tensor]:
    return torch.arange(MEMBERS, device=device) + 2**33, torch.tensor(4, device=device)


def check(name: str) -> str:
    """Runs one task; raises AssertionError, or returns a line of figures."""
    task = CASES[name]
    data = data_of(task)
    off = total = 0
    for a, b in zip(drawn(task, data, "cpu"), drawn(task, data, "cuda"), strict=True):
        b = b.cpu()
        off, total = off + int((a != b).sum()), total + a.numel()
        assert torch.allclose(a.double(), b.double(), rtol=3e-7, atol=1e-9)
        assert a.is_floating_point() or torch.equal(a, b)
    pack, moved = Pack(task, members(task, data, "cuda")), to_device(data, "cuda")
    losses, gradients = pack.step(drawn(task, data, "cuda"))
    for _ in range(2):
        again, same = pack.step(drawn(task, data, "cuda"))
        assert torch.equal(losses, again), "losses differ between two runs"
        for parameter, a, b in zip(pack.names, gradients, same, strict=True):
            assert torch.equal(a, b), f"the gradient of {parameter} differs between two runs"
    on_cpu, expected = Pack(task, members(task, data, "cpu")).step(drawn(task, data, "cpu"))
    assert torch.allclose(losses.cpu(), on_cpu, rtol=5e-3), (losses, on_cpu)
    error = max(((a.cpu() - b).norm() / b.norm()).item() for a, b in zip(gradients, expected, strict=True))
    assert error < 0.05, error
    milliseconds = captured(task, moved, pack, losses, gradients)
    return f"{off} of {total} numbers differ from the CPU's; gradients within {error:.1e}; a step {milliseconds:.3f} ms"


def captured(task: Task[Any], data: Any, pack: Pack, losses: Tensor, gradients: list[Tensor]) -> float:
    """Batch, losses and gradients in one CUDA graph, with the eager bits; milliseconds of a replay."""
    seeds, step = clock("cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            pack.step(task.batch(data, seeds, step, SIZE))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed, again = pack.step(task.batch(data, seeds, step, SIZE))
    step += 1
    graph.replay()
    assert not torch.equal(losses, replayed), "the graph ignores the step"
    step -= 1
    graph.replay()
    assert torch.equal(losses, replayed), "a replay differs from the eager run"
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(50):
        graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 20


def check_attention() -> str:
    """Fused attention in BF16 against FP32 on the CPU: relative errors of the output and the three gradients."""
    worst = 0.0
    for causal, tokens in ((True, 256), (True, 64), (False, 49), (False, 4)):
        g = torch.Generator().manual_seed(tokens)
        inputs = [torch.randn(3, 2, 4, tokens, 32, generator=g).requires_grad_() for _ in range(3)]
        results = []
        for device in ("cpu", "cuda"):
            y = torch.vmap(lambda *x: attention(*x, causal))(*(x.to(device) for x in inputs))  # noqa: B023
            results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
        for a, b in zip(*results, strict=True):
            worst = max(worst, ((a - b.cpu()).norm() / a.norm()).item())
    assert worst < 0.02, worst
    return f"attention: relative error {worst:.1e}"


def check_many_heads() -> str:
    """More heads than a CUDA grid takes blocks, as members times held-out items have: the bits of fewer of them."""
    total = 0
    for shape in ((70_000, 1, 16, 32), (40_000, 4, 8, 16), (513, 160, 2, 4, 32)):
        g = torch.Generator("cuda").manual_seed(1)
        q, k, v = (torch.randn(*shape, device="cuda", generator=g).requires_grad_() for _ in range(3))
        few = slice(0, max(1, shape[0] // 2))

        def run(*x: Tensor) -> list[Tensor]:
            y = torch.vmap(lambda *x: attention(*x, True))(*x) if x[0].dim() == 5 else attention(*x, True)
            return [y, *torch.autograd.grad(y.square().sum(), x)]

        everything, some = run(q, k, v), run(*(x[few] for x in (q, k, v)))
        for a, b in zip(everything, some, strict=True):
            assert a.isfinite().all()
            assert torch.equal(a[few], b), f"{shape}: other bits in company"
        total += 1
    return f"many heads: {total} shapes, the same bits in parts"


if "pytest" in sys.modules:

    @pytest.mark.parametrize("name", CASES)
    def test_a_pack_on_the_gpu(name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check(name)

    def test_fused_attention_is_attention() -> None:
        check_attention()

    def test_more_heads_than_a_grid_takes() -> None:
        check_many_heads()


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    warnings.simplefilter("error", UserWarning)
    print(check_attention())
    print(check_many_heads())
    for case in CASES:
        try:
            print(f"{case}: {check(case)}", flush=True)
        except Exception as failure:  # noqa: BLE001 - the summary shows all of them
            print(f"{case}: FAILED {type(failure).__name__}: {str(failure)[:400]}", flush=True)
