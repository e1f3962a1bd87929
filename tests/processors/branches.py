"""The routes that libraries take on other processors, as far as this one can be made to take them.

By environment variables of a child process, which the libraries read when they start: ``ATEN_CPU_CAPABILITY`` (torch's
own kernels), ``ONEDNN_MAX_CPU_ISA`` (oneDNN's), ``NUMBA_CPU_NAME`` (our compiled loops), ``MKL_ENABLE_INSTRUCTIONS``
and ``MKL_CBWR`` (MKL's). MKL takes another route on processors of other makers than Intel, whatever they can do; a
small library that is preloaded tells it which maker it is. On Arm there is no MKL; torch's own kernels have a choice
there too.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

_MAKER = """
int mkl_serv_intel_cpu_true(void) { return %d; }
int mkl_serv_intel_cpu(void) { return %d; }
"""
MAKERS = {"intel": 1, "other": 0}


@dataclass(frozen=True)
class Branch:
    """One route: the ``maker`` that MKL shall believe in ('': whichever it is) and environment ``variables``."""

    maker: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([*([f"maker={self.maker}"] * bool(self.maker)), *(f"{k}={v}" for k, v in self.variables)])


def branch(maker: str = "", **variables: str) -> Branch:
    return Branch(maker, tuple(variables.items()))


MOST = (
    branch("other"),
    branch("intel", ATEN_CPU_CAPABILITY="avx2"),
    branch(ATEN_CPU_CAPABILITY="default"),
)
"""Those that differ most; the last one needs neither MKL nor a compiler."""

ALL = (
    branch(),
    *MOST,
    *(branch(ATEN_CPU_CAPABILITY=level) for level in ("avx2", "avx512", "sve256")),
    branch("intel", MKL_ENABLE_INSTRUCTIONS="SSE4_2", ATEN_CPU_CAPABILITY="default"),
    *(branch("intel", MKL_ENABLE_INSTRUCTIONS=level) for level in ("SSE4_2", "AVX2", "AVX512")),
    branch("other", MKL_ENABLE_INSTRUCTIONS="SSE4_2"),
    branch("other", ATEN_CPU_CAPABILITY="avx2"),
    branch("other", MKL_CBWR="COMPATIBLE"),
    branch("intel", MKL_CBWR="COMPATIBLE"),
    branch("other", MKL_CBWR="AUTO"),
    *(branch(ONEDNN_MAX_CPU_ISA=level) for level in ("SSE41", "AVX2")),
    branch(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""),
)


def missing(one: Branch) -> str:
    """Why this machine cannot take a branch; '' when it can."""
    names = dict(one.variables)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if (one.maker or any(name.startswith("MKL") for name in names)) and not (x86 and torch.backends.mkl.is_available()):
        return f"no MKL on {platform.machine()}"
    if "ONEDNN_MAX_CPU_ISA" in names and not x86:
        return f"oneDNN has no choice on {platform.machine()}"
    if one.maker and not shutil.which("gcc"):
        return "no gcc to make a library with"
    if one.maker and platform.system() != "Linux":
        return f"no LD_PRELOAD on {platform.system()}"
    level = names.get("ATEN_CPU_CAPABILITY", "")
    if level and level not in levels():
        return f"this processor has no {level}"
    if names.get("MKL_ENABLE_INSTRUCTIONS") == "AVX512" and "avx512" not in levels():
        return "this processor has no avx512"
    return ""


@lru_cache
def levels() -> tuple[str, ...]:
    """The instruction sets that torch's own kernels can be told to use here."""
    own = torch.backends.cpu.get_cpu_capability().lower()
    if platform.machine().lower() in ("x86_64", "amd64"):
        steps = ("default", "avx2", "avx512")
        return steps[: steps.index(own) + 1] if own in steps else ("default",)
    return tuple(dict.fromkeys(("default", own)))


def environment(one: Branch, folder: Path) -> dict[str, str]:
    """The environment of a child process on a branch; ``folder``: where a library is put, once for each maker."""
    own = {**os.environ, **dict(one.variables), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    if one.maker:
        own["LD_PRELOAD"] = os.pathsep.join(filter(None, [str(_library(one.maker, folder)), own.get("LD_PRELOAD", "")]))
    return own


def _library(maker: str, folder: Path) -> Path:
    path = folder / f"{maker}.so"
    if not path.exists():
        source = folder / f"{maker}.c"
        source.write_text(_MAKER % (MAKERS[maker], MAKERS[maker]), encoding="utf-8")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, source], check=True, capture_output=True)
    return path
