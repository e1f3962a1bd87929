"""The commands about this machine: `data` and `doctor`."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import CommandFailed
from dse.extras import EXTRAS
from dse.version import __version__

if TYPE_CHECKING:
    from dse.numerics.formats import Format

_CORE = ("torch", "numpy", "scipy", "polars", "pyarrow", "pydantic", "ruamel.yaml", "typer", "rich")
_OPTIONAL = {module: "scikit-learn" if module == "sklearn" else module for module in EXTRAS}
"""Module -> the distribution that installs it."""


def data(data_dir: Path | None) -> None:
    from dse.tasks.data.locate import catalog

    rows = catalog(data_dir)
    width = max(len(row.name) for row in rows)
    for row in rows:
        size = f", {row.size / 2**20:.1f} MiB" if row.size else ""
        print(f"{row.name:{width}}  {row.task}: {row.summary}\n{'':{width}}  {row.where}{size}; {row.license}")


def doctor(results: Path) -> None:
    """Prints one line per check; raises CommandFailed when one failed."""
    failed = 0
    for name, check in _CHECKS.items():
        try:
            for line in check(results):
                print(f"ok    {name:12} {line}", flush=True)
        except Exception as error:  # noqa: BLE001 - the doctor reports whatever is wrong
            failed += 1
            print(f"FAIL  {name:12} {type(error).__name__}: {error}", flush=True)
    if failed:
        raise CommandFailed(f"{failed} of {len(_CHECKS)} checks failed")


def _versions(results: Path) -> Iterator[str]:
    yield f"dse {__version__}, Python {platform.python_version()} on {platform.platform()}"
    found, missing = dict[str, str](), []
    for package in (*_CORE, *_OPTIONAL.values()):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            missing.append(package)
    yield ", ".join(f"{package} {number}" for package, number in found.items())
    if lacking := [package for package in missing if package in _CORE]:
        raise RuntimeError(f"not installed: {', '.join(lacking)}; run: pip install fp4-dse")
    for module, package in _OPTIONAL.items():
        if package in missing:
            yield f"without {package}: pip install 'fp4-dse[{EXTRAS[module]}]'"


def _devices(results: Path) -> Iterator[str]:
    import torch

    from dse.train.processor import described, processor

    yield f"{os.cpu_count()} processors: {described(processor())}"
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        native = "native FP4" if p.major >= 10 else "FP4 is emulated"
        yield f"cuda:{i} {p.name}, {p.total_memory / 2**30:.0f} GiB, sm_{p.major}{p.minor}: {native}"
    if not torch.cuda.is_available():
        yield "no CUDA device: everything runs on the CPU"


def _arithmetic(results: Path) -> Iterator[str]:
    """Every element grid is reproduced by its own cast, and ties go where IEEE 754 has them, on every device."""
    import torch

    from dse.numerics.cast import cast
    from dse.numerics.formats import ELEMENTS

    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for fmt in ELEMENTS.values():
            grid = fmt.grid.float().tolist()
            pairs = list(pairwise(grid))
            given = [*grid, *((low + high) / 2 for low, high in pairs)]  # exact: they have few bits
            found = cast(torch.tensor(given, device=device), fmt).tolist()
            if found != [*grid, *(_tie(low, high, fmt) for low, high in pairs)]:
                raise RuntimeError(f"{fmt.name} casts are not exact on {device}")
        yield f"{', '.join(ELEMENTS)} casts are exact on {device}"
    yield _loops()


def _loops() -> str:
    """Compiled loops give the bits of plain torch."""
    import torch

    from dse.kernels import cpu_loops
    from dse.numerics.points import POINTS
    from dse.numerics.random import key
    from dse.recipes import RECIPES

    if not cpu_loops.load():
        return f"no compiled loops, plain torch: {cpu_loops.why_not()}"
    x = torch.randn(48, 96, generator=torch.Generator().manual_seed(0))
    for recipe in RECIPES.values():
        for number, point in enumerate(POINTS):
            quantizer, own = recipe.quantizer(point), key(1, 2, 3, number)
            with cpu_loops.switched_off():
                plain = quantizer(x, own).dequantize()
            if not torch.equal(plain, quantizer(x, own).dequantize()):
                raise RuntimeError(f"{recipe.name} at {point}: compiled loops and plain torch differ")
    kept = cpu_loops.cache_folder() or "no folder"
    return f"compiled loops, kept in {kept}, give the bits of plain torch for {len(RECIPES)} recipes"


def _tie(low: float, high: float, fmt: Format) -> float:
    """Which of two neighbors their middle rounds to: the one with an even last digit, or without one the larger one in
    magnitude, as significands of one bit have it (IEEE 754-2019, 4.3.1)."""
    even = [x for x in (low, high) if _digits(x, fmt) % 2 == 0]
    return even[0] if len(even) == 1 else max(low, high, key=abs)


def _digits(x: float, fmt: Format) -> int:
    """The significand as a whole number."""
    exponent = max(math.frexp(x)[1] - 1, fmt.emin) if x else fmt.emin
    return int(Fraction(x) / Fraction(2) ** (exponent - fmt.man))


def _members(results: Path) -> Iterator[str]:
    """A trial has the same bits in a pack and alone, at batch sizes that are no multiple of anything."""
    from dse.train.pack_check import compared
    from dse.train.threads import one_thread

    with one_thread():  # as workers have it
        found = list(compared(batches=(1, 5)))
    if other := [what for what, same in found if not same]:
        raise RuntimeError(f"{len(other)} of {len(found)} trials have other bits in a pack than alone: {other[0]}")
    yield f"{len(found)} trials have the same bits in a pack and alone"


def _folder(results: Path) -> Iterator[str]:
    from dse.results.store import Store

    existing = next(p for p in (results, *results.resolve().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise RuntimeError(f"{existing} is not writable")
    yield f"{results.resolve()} is writable, {len(Store(results).done())} results"


def _ray(results: Path) -> Iterator[str]:
    if find_spec("ray") is None:
        yield "not installed: trials run in one process (dse run --executor local)"
        return
    from dse.run.executors.cluster import cluster
    from dse.train.options import RunOptions

    with cluster(RunOptions()) as slots:
        yield f"starts, with {slots} worker slots"


_CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "versions": _versions,
    "devices": _devices,
    "arithmetic": _arithmetic,
    "members": _members,
    "results": _folder,
    "ray": _ray,
}
