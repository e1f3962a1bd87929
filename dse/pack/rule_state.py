"""The tensors of weight rules in a pack, side by side: members that skip a step keep theirs in few operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dse.pack.layer import MemberRun, PackLayer


class _Buffer(NamedTuple):
    """Tensors [members, columns] of one dtype of the members of some runs, which are the same at all layers."""

    members: slice
    tensor: Tensor


class RuleState:
    """What weight rules keep at all layers, in one buffer for each group of members and dtype.

    It takes the place of the runs' own tensors, which become views of it.
    """

    def __init__(self, layers: Iterable[PackLayer]) -> None:
        groups: dict[tuple[int, int, torch.dtype], list[tuple[MemberRun, str]]] = {}
        for run in (run for layer in layers for run in layer.runs):
            for name, tensor in run.state.items():
                groups.setdefault((run.start, run.stop, tensor.dtype), []).append((run, name))
        self._buffers = [_Buffer(slice(start, stop), _joined(own)) for (start, stop, _), own in groups.items()]

    def keep(self, active: Tensor, change: Callable[[], None]) -> None:
        """Calls ``change``, and takes back what it did to members that are not ``active``, bool [E]."""
        before = [buffer.tensor.clone() for buffer in self._buffers]
        change()
        for (members, now), then in zip(self._buffers, before, strict=True):
            torch.where(active[members].unsqueeze(-1), now, then, out=now)


def _joined(own: list[tuple[MemberRun, str]]) -> Tensor:
    """One buffer of the tensors, which are made views of it."""
    parts = [run.state[name].flatten(1) if run.state[name].dim() > 1 else run.state[name][:, None] for run, name in own]
    buffer = torch.cat(parts, 1)
    for (run, name), part in zip(own, buffer.split([part.shape[1] for part in parts], 1), strict=True):
        run.state[name] = part.view(run.state[name].shape)
    return buffer
