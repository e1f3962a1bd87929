"""Times the plain-torch reference quantizers on a CUDA device against a copy of the operand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch

from dse.numerics.random import Key
from dse.recipes import RECIPES

NAMES = ("mxfp4", "mxfp8", "nvfp4", "nvfp4_plain", "four_over_six", "if4", "quartet", "ue5m3")
POINTS = ("fprop.lhs", "fprop.rhs", "dgrad.lhs")


def milliseconds(run: Callable[[], object], count: int = 10) -> float:
    """Mean time of a call between two CUDA events, after three calls to warm up."""
    for _ in range(3):
        run()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(count):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", type=int, default=8192, help="side of the operand (8192)")
    size = parser.parse_args(arguments).size
    x = torch.randn(size, size, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    y, key = torch.empty_like(x), Key(torch.tensor([0, 0], device="cuda"))
    floor = milliseconds(lambda: y.copy_(x))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {size} x {size} float32: copy {floor:.3f} ms")
    for name in NAMES:
        line = f"{name:16}"
        for point in POINTS:
            time = milliseconds(partial(RECIPES[name].quantizer(point), x, key))
            line += f"  {point} {time:6.2f} ms = {time / floor:5.1f} x"
        print(line)


if __name__ == "__main__":
    main()
