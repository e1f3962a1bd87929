"""Whether Triton kernels can run here, and which tensors they take."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor


class Gpu(NamedTuple):
    """What launches depend on: the compute capability, and the number of multiprocessors."""

    capability: tuple[int, int]
    multiprocessors: int

    @classmethod
    def of(cls, device: torch.device | str) -> Gpu:
        """Those of a CUDA device."""
        found = torch.cuda.get_device_properties(device)
        return cls((found.major, found.minor), found.multi_processor_count)


class StandIn:
    """``gpu``: the one that tensors on the device 'meta' stand for while launches are recorded, else None."""

    gpu: Gpu | None = None


def interpreted() -> bool:
    """Whether Triton emulates kernels on the CPU (tests)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _here() -> bool:
    return find_spec("triton") is not None and (interpreted() or torch.cuda.is_available())


def available() -> bool:
    """Whether kernels can run: Triton, and a CUDA device or Triton's interpreter; or their launches are recorded."""
    return StandIn.gpu is not None or _here()


def lies_on_gpu(x: Tensor) -> bool:
    """Whether a tensor lies on a GPU, or stands for one that does (``dse.kernels.recording``)."""
    return x.is_cuda or (x.is_meta and StandIn.gpu is not None)


def takes(x: Tensor) -> bool:
    """Whether kernels take a tensor."""
    return lies_on_gpu(x) and available()


def takes_plainly(x: Tensor) -> bool:
    """Whether kernels without a gradient take a tensor: one that none is asked of, outside of transforms."""
    if not takes(x) or torch.compiler.is_compiling() or (x.requires_grad and torch.is_grad_enabled()):
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)


def gpu_of(device: torch.device) -> Gpu | None:
    """The GPU that a device is or stands for."""
    if device.type == "cuda":
        return _known(device)
    return StandIn.gpu if device.type == "meta" else None


@cache
def _known(device: torch.device) -> Gpu:
    return Gpu.of(device)


def address(x: Tensor) -> int:
    """Where a tensor's first element lies; of one without memory, its distance from the start of its storage."""
    return int(x.storage_offset()) * x.element_size() if x.is_meta else x.data_ptr()
