"""This machine's processor and math libraries, and a fingerprint of the bits that they compute.

The bits of a CPU depend on the routines that its libraries choose for it: torch's own kernels by instruction set, MKL's
and oneDNN's by instruction set and maker. None of this is part of a trial's identity, all of it is in its record.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dse.kernels.alignment import product
from dse.train.threads import one_thread

CHOICES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""Environment variables that select the libraries' routines (torch's own is reported as ``instructions``)."""
_LIBRARIES = {"mkl": r"Math Kernel Library Version ([\w.]+)", "onednn": r"MKL-DNN v([\w.]+)"}
_CPUINFO = Path("/proc/cpuinfo")


@cache
def processor() -> Mapping[str, str]:
    """Plain facts for the record.

    ``maker`` and ``model`` of the processor; ``instructions``: those of torch's own kernels; ``mkl``, ``onednn``:
    versions, where torch has them; those of ``CHOICES`` that are set; ``bits``: see ``fingerprint``.
    """
    maker, model = _name()
    built = torch.__config__.show()
    found = {name: match[1] for name, pattern in _LIBRARIES.items() if (match := re.search(pattern, built))}
    chosen = {name: os.environ[name] for name in CHOICES if os.environ.get(name)}
    own = {"maker": maker, "model": model, "instructions": torch.backends.cpu.get_cpu_capability()}
    return {key: value for key, value in own.items() if value} | found | chosen | {"bits": fingerprint()}


def described(facts: Mapping[str, str]) -> str:
    """The facts in one line: AMD EPYC (AuthenticAMD), AVX2, mkl 2024.2, bits 1b3d5f70."""
    own = dict(facts)
    model, maker = own.pop("model", "unknown processor"), own.pop("maker", "")
    head = f"{model} ({maker})" if maker else model
    first = [head, *filter(None, [own.pop("instructions", "")])]
    return ", ".join([*first, *(f"{key} {value}" for key, value in own.items())])


@cache
def fingerprint() -> str:
    """8 hex digits over products, sums, functions and normal numbers of fixed operands, in FP32 and FP64.

    Machines with different fingerprints give different bits for the same trial; those with equal ones most likely not.
    """
    digest = hashlib.sha256()
    with one_thread():
        for y in _results():
            digest.update(y.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _results() -> Iterator[Tensor]:
    with torch.no_grad():
        for m, n, k in ((1, 10, 128), (33, 5, 33), (64, 1, 64), (5, 16, 7), (128, 96, 256)):
            a, b = _operand(m, k), _operand(k, n)
            yield product(a, b)
            yield product(a, _operand(n, k).mT)
            yield product(a.double(), b.double())
            yield product(_operand(3 * m, k).view(3, m, k), _operand(3 * k, n).view(3, k, n))
        x = _operand(37, 129)
        yield from (
            x.exp(),
            x.abs().add(0.01).log(),
            x.erf(),
            x.sin(),
            x.cos(),
            x.abs().add(0.01).rsqrt(),
            x.softmax(-1),
        )
        yield from (x.sum(-1), x.sum(-2), x.sum((-2, -1)), x.double().sum(-1), x.mean(-1))
        yield from (x.logsumexp(-1), torch.linalg.vector_norm(x, dim=1), torch.nn.functional.layer_norm(x, (129,)))
        yield torch.special.ndtri(x.double().div(9).add(0.5))
        yield torch.randn(100, generator=torch.Generator().manual_seed(0))


def _operand(rows: int, columns: int) -> Tensor:
    """Numbers in [-4, 4) made of whole ones: the same everywhere."""
    word = torch.arange(1, rows * columns + 1) * 2654435761 >> 8 & 0xFFFF
    return (word.float() / 2**13 - 4).view(rows, columns)


def _name() -> tuple[str, str]:
    """Maker and model as reported by the system; '' where it reports none."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    part = " ".join(filter(None, (found.get("CPU implementer"), found.get("CPU part"))))
    model = found.get("model name") or found.get("Model") or part or platform.processor() or platform.machine()
    return found.get("vendor_id", ""), model


__all__ = ["CHOICES", "described", "fingerprint", "processor"]
