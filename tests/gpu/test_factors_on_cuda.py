"""Operands whose scales stay out of their values, on a GPU: the reference's bits, and products next to float64.

Also a script that checks them and then times products with factors against those of FP32 operands:
python tests/gpu/test_factors_on_cuda.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.fused.checked import all_kernels
from dse.kernels import SumFactors, available, contract
from tests.kernels.factor_cases import LARGE, Case, operands_wrong, wrong
from tests.pack.segment_cases import LARGE as LARGE_LAYER
from tests.pack.segment_cases import difference, gallery

try:
    import pytest

    pytestmark = [
        pytest.mark.gpu,
        pytest.mark.skipif(not (torch.cuda.is_available() and available()), reason="needs a CUDA device and Triton"),
    ]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

SEED = 3
KINDS = ("normal", "bf16", "wide", "special", "infinite", "subnormal", "zero", "largest")
RECIPES = (
    "tetrajet2",
    "per_token_nvfp4",
    "per_token_nvfp4_backward",
    "zhou_modulewise",
    "zhou_modulewise_fp8",
    "mxfp4_macro128",
    "wang_fp4",
)
"""Recipes with factors, and one whose short operands meet FP32 ones."""


@all_kernels()
def wrong_operands() -> list[str]:
    shapes = ((20, 136), (150, 272), (300, 4160))
    return [line for shape in shapes for line in operands_wrong("cuda", *shape, KINDS)]


@all_kernels()
def wrong_layers() -> list[str]:
    """Layers whose Y, dX or dW are further from the reference's than FP32 sums explain."""
    known, found = gallery(), []
    for name in RECIPES:
        for dtype, allowed in ((torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
            if (off := difference([known[name]] * 2, dtype, LARGE_LAYER)) > allowed:
                found.append(f"{name}, {dtype}: differs by {off:g}")
    return found


try:

    @pytest.mark.parametrize("case", LARGE, ids=str)
    def test_products(case: Case) -> None:
        print("seed", SEED)
        assert not list(wrong(case, "cuda", SEED))

    def test_operands() -> None:
        assert not wrong_operands()

    def test_layers() -> None:
        assert not wrong_layers()

except NameError:
    pass


# ---------------------------------------------------------------------------------------------------------------- time
def milliseconds(call: Callable[[], Tensor]) -> float:
    """Of one call in a CUDA graph of ten; the best of five."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            call()
    found = []
    for _ in range(5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end) / 10)
    return min(found)


def timed(members: int, rows: int, columns: int, depth: int) -> Iterator[tuple[str, float]]:
    """A product of BF16 operands without factors, with those of rows and of groups, beside an FP32 one, and of two."""

    def factors(side: int, group: int) -> SumFactors:
        return SumFactors(torch.ones(members, -(-depth // group) if group else 1, side, device="cuda"), group)

    x = torch.randn(members, rows, depth, device="cuda").bfloat16()
    y = torch.randn(members, columns, depth, device="cuda").bfloat16()
    wide_x, wide_y, dtype = x.float(), y.float(), torch.bfloat16
    yield "plain", milliseconds(lambda: contract(x, y, dtype=dtype))
    for group in (0, 128, 64, 32, 16):
        both = (factors(rows, group), factors(columns, group))
        label = f"groups of {group}" if group else "rows"
        yield label, milliseconds(lambda both=both: contract(x, y, dtype=dtype, factors=both))
    yield "one in FP32", milliseconds(lambda: contract(x, wide_y, dtype=dtype))
    yield "both in FP32", milliseconds(lambda: contract(wide_x, wide_y, dtype=dtype))


def main() -> int:
    """Prints what is wrong, and the number; then times."""
    begin = time.time()
    bad = [line for case in LARGE for line in wrong(case, "cuda", SEED)] + wrong_operands() + wrong_layers()
    print(*bad, f"{len(LARGE)} products, seed {SEED}, {len(bad)} differ, {time.time() - begin:.0f} s", sep="\n")
    for shape in ((64, 2048, 128, 128), (64, 2048, 352, 128), (64, 128, 352, 2048), (2, 32768, 1728, 640)):
        print(*shape, *(f"{name} {ms:.4f} ms" for name, ms in timed(*shape)), sep="  ", flush=True)
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
