"""Products on a GPU: by pointers and by descriptors the same bits, in a stack as alone, next to float64.

Also a script that checks them and then times tilings against the library, a JSON line each:
python tests/gpu/test_products_on_cuda.py [FILE [SHAPE ...]]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.kernels import Grouping, available, contract, descriptors, grouped, matmul, tilings
from dse.kernels.epilogue import Epilogue
from dse.kernels.tilings import MatmulTile, Tiling
from dse.kernels.tree import tree_sum
from dse.numerics.quantizer import Quantized
from dse.numerics.techniques.accumulations import Groups
from dse.numerics.tree import total

try:
    import pytest

    pytestmark = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (torch.cuda.is_available() and available()), reason="needs a CUDA device and Triton"),
    ]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

SEED = 6
JOBS = 15
"""Processes that compile kernels."""


class Shape(NamedTuple):
    """One GEMM of a layer: fprop or dgrad of ``tokens``, which write ``result``, or wgrad, which writes FP32.

    ``wide``: its operands are FP32.
    """

    name: str
    members: int
    gemm: str
    tokens: int
    inputs: int
    outputs: int
    wide: bool = False
    result: str = "bfloat16"

    def operands(self, members: int, device: str = "cuda") -> tuple[Tensor, Tensor]:
        """x [E, M, K] and y [E, N, K] as a packed layer has them: Wᵀ, Gᵀ and Xᵀ are transposed views."""
        generator = torch.Generator(device).manual_seed(SEED)

        def some(rows: int, columns: int) -> Tensor:
            x = torch.randn(members, rows, columns, generator=generator, device=device)
            return x if self.wide else x.bfloat16()

        if self.gemm == "fprop":
            return some(self.tokens, self.inputs), some(self.outputs, self.inputs)
        if self.gemm == "dgrad":
            return some(self.tokens, self.outputs), some(self.outputs, self.inputs).mT
        return some(self.tokens, self.outputs).mT, some(self.tokens, self.inputs).mT

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.gemm == "wgrad" or self.result == "float32" else torch.bfloat16

    @property
    def flops(self) -> float:
        return 2.0 * self.members * self.tokens * self.inputs * self.outputs

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        if self.gemm == "wgrad":
            return self.outputs, self.inputs
        return self.tokens, self.outputs if self.gemm == "fprop" else self.inputs


MODELS = {
    "gpt128": (64, 2048, ((128, 128), (128, 352), (352, 128))),
    "3M": (16, 8192, ((192, 192), (192, 512), (512, 192))),
    "gpt256": (64, 2048, ((256, 256), (256, 704), (704, 256))),
    "30M": (4, 64 * 512, ((512, 512), (512, 1280), (1280, 512))),
    "60M": (2, 64 * 512, ((640, 640), (640, 1728), (1728, 640))),
    "60M alone": (1, 64 * 512, ((640, 640), (640, 1728), (1728, 640))),
}


def shapes() -> list[Shape]:
    found = []
    for name, (members, tokens, layers) in MODELS.items():
        for gemm in ("fprop", "dgrad", "wgrad"):
            found += [Shape(name, members, gemm, tokens, inputs, outputs) for inputs, outputs in layers]
            if name in ("gpt128", "60M alone"):
                found += [Shape(f"{name} FP32", members, gemm, tokens, *layers[1], True, "float32")]
            if name in ("gpt128", "30M", "60M") and gemm != "wgrad":
                found += [Shape(f"{name} to FP32", members, gemm, tokens, *layers[1], False, "float32")]
    return found


class Candidate(NamedTuple):
    """A tiling, and whether operands go by descriptors."""

    tiling: Tiling
    by_descriptors: bool = True

    def __str__(self) -> str:
        t, route = self.tiling, "descriptors" if self.by_descriptors else "pointers"
        kept = f", {t.programs} programs each" if t.programs else ", split inside" if t.inside else ""
        return f"{route} {t.tile.m}x{t.tile.n}x{t.tile.k} w{t.tile.warps} s{t.tile.stages} parts {t.parts}{kept}"


SMALL, TALL, BROAD = MatmulTile(128, 128, 64, 4, 3), MatmulTile(256, 128, 64, 8, 3), MatmulTile(128, 256, 64, 8, 3)


def candidates(shape: Shape) -> list[Candidate]:
    """The one in use first, then that of pointers, then others."""
    rows, columns = shape.sides
    depth = {"fprop": shape.inputs, "dgrad": shape.outputs, "wgrad": shape.tokens}[shape.gemm]
    slots = tilings.multiprocessors(torch.device("cuda", 0))
    pairs = 6 if shape.wide else 1
    found = [Candidate(tilings.described(rows, columns, pairs * depth, slots, shape.dtype))]
    if shape.wide:
        inside = [
            Tiling(MatmulTile(128, 128, k, 8, s), found[0].tiling.parts, 0, True)
            for k, s in ((32, 2), (32, 3), (64, 2))
        ]
        return [*found, *map(Candidate, inside), Candidate(tilings.wide(rows, columns, depth), False)]
    found.append(Candidate(tilings.narrow(rows, columns, depth), False))
    stages = 4 if shape.dtype == torch.bfloat16 else 3
    if found[0].tiling.parts > 1:
        parts = {found[0].tiling.parts, found[0].tiling.parts * 2}
        return [*found, *(Candidate(Tiling(t, p)) for p in sorted(parts) for t in (SMALL, TALL, BROAD))]
    found += [
        Candidate(Tiling(SMALL)),
        Candidate(Tiling(SMALL, 1, 2)),
        Candidate(Tiling(MatmulTile(64, 128, 64, 4, 4))),
    ]
    for tile in (TALL, BROAD):
        found += [Candidate(Tiling(tile._replace(stages=s), 1, 1)) for s in sorted({3, stages})]
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------------------------------------------------------- bits
def wrong(shape: Shape, members: int = 2) -> Iterator[str]:
    """What is not as it should be for operands of a shape."""
    x, y = shape.operands(members)
    generator = torch.Generator("cuda").manual_seed(SEED)
    first, second = (torch.rand(members, generator=generator, device="cuda") + 0.5 for _ in range(2))
    bias = torch.randn(members, y.shape[1], generator=generator, device="cuda")
    exact = x.double() @ y.double().mT * (first * second)[:, None, None]
    bound = x.double().abs() @ y.double().abs().mT * (first * second)[:, None, None]
    plain = contract(x, y, first, second)
    if not ((plain - exact).abs() <= 2**-18 * bound).all():
        yield f"{shape}: off by {((plain - exact).abs() / bound).max().item():.3g} of the sum of magnitudes"
    biased = contract(x, y, first, second, bias)
    if not torch.equal(biased, plain + bias[:, None]):
        yield f"{shape}: bias"
    if not torch.equal(contract(x, y, first, second, bias, torch.bfloat16), biased.bfloat16()):
        yield f"{shape}: BF16 with a bias"
    alone = [contract(x[i : i + 1], y[i : i + 1], first[i : i + 1], second[i : i + 1]) for i in range(members)]
    if not torch.equal(torch.cat(alone), plain):
        yield f"{shape}: alone"
    for candidate in candidates(shape):
        if not candidate.by_descriptors:
            continue
        if shape.wide:
            out = torch.full_like(plain, torch.nan)
            matmul.launch(x, y, Epilogue.of(first, second, None, out), out, candidate.tiling, True)
            if not ((out - exact).abs() <= 2**-18 * bound).all():
                yield f"{shape}: {candidate}: off by {((out - exact).abs() / bound).max().item():.3g}"
            continue
        out = torch.full_like(plain, torch.nan, dtype=shape.dtype)
        other = torch.full_like(out, torch.nan)
        epilogue = Epilogue.of(first, second, None, out)
        tiling = candidate.tiling
        if not all(map(descriptors.fits, (x, y))):
            continue
        try:
            matmul.launch(x, y, epilogue, out, tiling, True)
            pointers = MatmulTile(128, 128, tiling.tile.k, 8, 3)
            matmul.launch(x, y, epilogue, other, Tiling(pointers, tiling.parts), False)
            torch.cuda.synchronize()
        except Exception as error:  # noqa: BLE001 - one tiling must not stop the others
            yield f"{shape}: {candidate}: {type(error).__name__}: {str(error)[:200]}"
            continue
        if not torch.equal(out, other):
            yield f"{shape}: {candidate}: {(out != other).sum().item()} differ from those by pointers"


def odd_shapes() -> list[Shape]:
    """Ragged, and too narrow for descriptors' steps."""
    found = []
    for gemm in ("fprop", "dgrad", "wgrad"):
        found += [Shape("ragged", 3, gemm, 1000, 72, 136), Shape("odd", 2, gemm, 333, 71, 45, wide=True)]
        found += [Shape("head", 2, gemm, 2048, 640, 99, wide=True), Shape("odd", 2, gemm, 2200, 640, 131)]
        found += [Shape("ragged", 3, gemm, 40, 1032, 8)]
    return found


def small_wrong() -> Iterator[str]:
    """Shapes that no descriptor fits: they go by pointers, and are right."""
    generator = torch.Generator("cuda").manual_seed(SEED)
    for e, m, n, k in ((2, 33, 50, 70), (3, 1, 7, 5), (2, 128, 10, 4100), (1, 130, 1, 128)):
        x, y = (torch.randn(e, r, k, generator=generator, device="cuda").bfloat16() for r in (m, n))
        got, exact = contract(x, y), x.double() @ y.double().mT
        if not ((got - exact).abs() <= 2**-18 * (x.double().abs() @ y.double().abs().mT)).all():
            yield f"{(e, m, n, k)}"


def grouped_wrong() -> Iterator[str]:
    """Accumulation in groups against the reference on the CPU, exact sums and others."""
    generator = torch.Generator().manual_seed(SEED)
    for how in (Groups(), Groups(16, "nearest_even", 1024)):
        for wide in (False, True):
            x, y = (torch.randn(2, r, 200, generator=generator) for r in (130, 70))
            x = x * torch.exp2(12 * torch.randn(2, 130, 200, generator=generator)) if wide else x.bfloat16()
            y = y if wide else y.bfloat16()
            bias, alpha = torch.randn(2, 70, generator=generator), torch.rand(2, 1, 1, generator=generator)
            want = how.contract(Quantized(x, alpha), Quantized(y), bias)
            got = how.contract(Quantized(x.cuda(), alpha.cuda()), Quantized(y.cuda()), bias.cuda()).cpu()
            if not torch.equal(got, want):
                yield f"{how}, {'FP32' if wide else 'BF16'}: {(got != want).sum().item()} differ"


def parts_wrong(device: str = "cuda") -> Iterator[str]:
    """What products in parts rest on: decoding in the product or before, operands as they lie, sums of BF16 numbers."""
    generator = torch.Generator().manual_seed(SEED)
    for e, m, n, k in ((2, 130, 1, 2048), (3, 72, 40, 70), (1, 128, 1, 300)):
        x, y = (torch.randn(e, r, k, generator=generator).to(device) for r in (m, n))
        values, alpha = x.bfloat16(), torch.rand(e, 1, 1, generator=generator).to(device)
        turned, shape = values.mT.contiguous().mT, (e, m, n, k)
        want = contract(values.float() * alpha, y)
        for name, own in (("in rows", values), ("in columns", turned)):
            for how, got in (
                ("in the product", contract(own, y, decode=alpha)),
                ("before", contract(own.float() * alpha, y)),
            ):
                if not torch.equal(got, want):
                    yield f"{shape}: {name}, decoded {how}: {(got != want).sum().item()} differ"
        if not torch.equal(tree_sum(values, 1).cpu() + 0.0, total(values.cpu(), (1,))):
            yield f"{shape}: sums of BF16 numbers"


try:

    @pytest.mark.parametrize("shape", [*odd_shapes(), *(s for s in shapes() if s.name in ("gpt128", "60M"))], ids=str)
    def test_the_same_bits_by_any_route(shape: Shape) -> None:
        print("seed", SEED)
        assert not list(wrong(shape))

    def test_shapes_without_descriptors() -> None:
        print("seed", SEED)
        assert not list(small_wrong())

    def test_accumulation_in_groups() -> None:
        print("seed", SEED)
        assert not list(grouped_wrong())

    def test_products_in_parts() -> None:
        print("seed", SEED)
        assert not list(parts_wrong())

except NameError:
    pass


# ---------------------------------------------------------------------------------------------------------------- time
def seconds(calls: Sequence[Callable[[], object]]) -> float:
    """Of one call, in a CUDA graph of all of them."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for _ in range(4):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / len(calls))
    return median(times[1:])


def timed(shape: Shape) -> Iterator[tuple[str, float | str]]:
    """Milliseconds of every candidate and of the library's calls; or what went wrong."""
    x, y = shape.operands(shape.members)
    pairs = [(x, y)] + [(x.clone(memory_format=torch.preserve_format), y) for _ in range(2)]
    one = torch.ones(shape.members, device="cuda")
    out = torch.empty(shape.members, *shape.sides, dtype=shape.dtype, device="cuda")
    epilogue = Epilogue.of(one, one, None, out)
    wide = torch.empty(shape.members, *shape.sides, device="cuda")

    def ours(candidate: Candidate, a: Tensor, b: Tensor) -> Callable[[], object]:
        return lambda: matmul.launch(a, b, epilogue, out, candidate.tiling, candidate.by_descriptors)

    def stacked(a: Tensor, b: Tensor) -> Callable[[], object]:
        return lambda: torch.bmm(a, b.mT)

    def singly(a: Tensor, b: Tensor) -> Callable[[], object]:
        return lambda: [torch.mm(a[i], b[i].mT) for i in range(len(a))]

    def in_fp32(a: Tensor, b: Tensor) -> Callable[[], object]:
        def run() -> None:
            for i in range(len(a)):
                torch.mm(a[i], b[i].mT, out_dtype=torch.float32, out=wide[i])
            wide.mul_(one[:, None, None])

        return run

    makers: dict[str, Callable[[Tensor, Tensor], Callable[[], object]]] = {}
    for candidate in candidates(shape):
        makers[str(candidate)] = lambda a, b, candidate=candidate: ours(candidate, a, b)
    makers["library, stacked"] = stacked
    if shape.name == "gpt128":
        makers["groups of 64"] = lambda a, b: lambda: grouped(a, b, Grouping(64, True), (one, one), None, shape.dtype)
    if shape.members <= 4 and not shape.wide:
        makers |= {"library, one by one, BF16": singly, "library, one by one, FP32 and scales": in_fp32}
    for name, make in makers.items():
        try:
            yield name, seconds([make(a, b) for a, b in pairs] * 2) * 1e3
        except Exception as error:  # noqa: BLE001 - one candidate must not stop the others
            yield name, f"{type(error).__name__}: {str(error)[:160]}"
            torch.cuda.synchronize()


def compile_ahead(part: int, names: Sequence[str]) -> None:
    """A share of the kernels once, for two members, so that Triton's cache on disk has them."""
    kernels = {}
    for shape in (s for s in shapes() if s.name in names):
        for candidate in candidates(shape):
            tiling, route = candidate.tiling, candidate.by_descriptors
            cut = (
                tiling.share(shape.tokens if shape.gemm == "wgrad" else shape.inputs) if not route else tiling.parts > 1
            )
            kernels[shape.gemm, shape.wide, tiling.tile, tiling.programs, cut] = shape, candidate
    for shape, candidate in list(kernels.values())[part::JOBS]:
        x, y = shape.operands(2)
        out = torch.empty(2, *shape.sides, dtype=shape.dtype, device="cuda")
        one = torch.ones(2, device="cuda")
        with suppress(Exception):  # the measurement reports it
            matmul.launch(x, y, Epilogue.of(one, one, None, out), out, candidate.tiling, candidate.by_descriptors)
    torch.cuda.synchronize()


def checked(shape: Shape) -> list[str]:
    """In a process of its own, because kernels are compiled for some of it."""
    try:
        return list(wrong(shape))
    except Exception as error:  # noqa: BLE001 - one shape must not stop the others
        return [f"{shape}: {type(error).__name__}: {str(error)[:300]}"]


def main() -> None:
    """Checks, then times; every line is printed and written as it is found."""
    begin, path = time.time(), Path(sys.argv[1] if len(sys.argv) > 1 else "products.jsonl")
    names = sys.argv[2:] or list(dict.fromkeys(s.name for s in shapes()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(JOBS, get_context("spawn")) as pool:
        list(pool.map(compile_ahead, range(JOBS), [names] * JOBS))
        print(torch.cuda.get_device_name(), torch.__version__, f"compiled in {time.time() - begin:.0f} s", flush=True)
        some = [s for s in shapes() if s.name.startswith("gpt128") or s.name == "60M"]
        found = [line for lines in pool.map(checked, [*odd_shapes(), *some]) for line in lines]
        found += [*small_wrong(), *grouped_wrong(), *parts_wrong()]
    print(*found[:40], f"{len(found)} wrong, {time.time() - begin:.0f} s", sep="\n", flush=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"wrong": found, "device": torch.cuda.get_device_name()}) + "\n")
        for shape in (s for s in shapes() if s.name in names):
            best = {}
            for name, ms in timed(shape):
                row = {**shape._asdict(), "candidate": name}
                row |= {"ms": ms, "tflops": shape.flops / ms / 1e9} if isinstance(ms, float) else {"error": ms}
                best |= {name: ms} if isinstance(ms, float) else {}
                file.write(json.dumps(row) + "\n")
                file.flush()
            print(*shape, sep=" ")
            for name, ms in sorted(best.items(), key=lambda item: item[1]):
                print(f"  {ms:8.4f} ms {shape.flops / ms / 1e9:6.0f} TFLOP/s  {name}", flush=True)
    print(f"{time.time() - begin:.0f} s")


if __name__ == "__main__":
    main()
