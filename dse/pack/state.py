"""State of a pack's train step: reading it, and copying members from one train step into another.

Halving copies the survivors into a narrower train step; checkpoints are loaded the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from dse.pack.step import TrainStep

if TYPE_CHECKING:
    from dse.pack.attention import PackAttention
    from dse.pack.layer import PackLayer

_MEMBERS_LAST = ("log",)
"""Tensors of a train step with members on the second axis; all others have them on the first."""
_LAYER = "layer."


class StateMismatch(ValueError):
    """A state whose names, shapes or dtypes are not those of the train step that is to load it."""


class LayerState(NamedTuple):
    """``tensors`` of a layer (or an attention), of which ``number.name`` belong to one of its runs of members.

    ``spans``: [start, stop] of the runs; ``phases`` [E] of the precision schedules.
    """

    tensors: Mapping[str, Tensor]
    spans: Sequence[Sequence[int]]
    phases: Sequence[str]

    def member(self, member: int) -> dict[str, Tensor]:
        """Views of one member's tensors, by names that do not depend on the pack it is in."""
        number, start = next((i, start) for i, (start, stop) in enumerate(self.spans) if start <= member < stop)
        own = {}
        for name, tensor in self.tensors.items():
            run, _, rest = name.partition(".")
            if not rest:
                own[name] = tensor[member]
            elif int(run) == number:
                own[rest] = tensor[member - start]
        return own


class State(NamedTuple):
    """``tensors`` [E, ...] of the train step, ``log`` [steps, E]; ``layers``: by the template's names."""

    tensors: Mapping[str, Tensor]
    layers: Mapping[str, LayerState]

    def plain(self) -> dict[str, Any]:
        """A copy on the CPU as plain data, for ``torch.save``; what is there already is not copied."""
        layers = {
            name: {"tensors": _on_cpu(layer.tensors), "spans": list(layer.spans), "phases": list(layer.phases)}
            for name, layer in self.layers.items()
        }
        return {"tensors": _on_cpu(self.tensors), "layers": layers}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> State:
        """The inverse of ``plain``."""
        return cls(plain["tensors"], {name: LayerState(**layer) for name, layer in plain["layers"].items()})


def state(train_step: TrainStep) -> State:
    """The state of a train step; the tensors are its own, not copies."""
    own = {name: tensor for name, tensor in train_step.tensors().items() if not name.startswith(_LAYER)}
    return State(own, {name: _layer(layer) for name, layer in train_step.pack.stateful.items()})


class MemberRows(NamedTuple):
    """Which members to read from one state: ``rows`` maps a member of the new train step to its row in ``state``."""

    state: State
    rows: Mapping[int, int]


def load_members(train_step: TrainStep, *sources: MemberRows) -> None:
    """Copies the state of members into a new train step, so that they continue bit for bit.

    Raises StateMismatch, and changes nothing, where names, shapes or dtypes differ.
    """
    now = state(train_step)
    try:
        pairs = [pair for source in sources for pair in _pairs(now, source)]
        phases = [
            (layer, place, source.state.layers[name].phases[row])
            for name, layer in train_step.pack.stateful.items()
            for source in sources
            for place, row in source.rows.items()
        ]
    except (KeyError, IndexError, StopIteration) as error:
        raise StateMismatch(f"{type(error).__name__}: {error}") from None
    for name, new, old in pairs:
        if new.shape != old.shape or new.dtype != old.dtype:
            raise StateMismatch(f"{name}: {tuple(old.shape)} {old.dtype} for {tuple(new.shape)} {new.dtype}")
    for _, new, old in pairs:
        new.copy_(old)
    for layer, place, phase in phases:
        layer.phases[place] = phase
    for layer in train_step.pack.stateful.values():
        layer.arrange()


def narrowed(train_step: TrainStep, keep: Sequence[int]) -> TrainStep:
    """A new train step of the members ``keep``, with a copy of their state: they continue bit for bit."""
    trials = [train_step.pack.trials[member] for member in keep]
    narrow = TrainStep(trials, train_step.data, train_step.pack.device, train_step.use_kernels, train_step.weights)
    load_members(narrow, MemberRows(state(train_step), dict(enumerate(keep))))
    return narrow


def _pairs(now: State, source: MemberRows) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, tensor to write, and tensor to read; both are views."""
    then = source.state
    _all_there(now.tensors, then.tensors)
    _all_there(now.layers, then.layers)
    for name, tensor in now.tensors.items():
        axis = 1 if name in _MEMBERS_LAST else 0
        for place, row in source.rows.items():
            yield name, tensor.select(axis, place), then.tensors[name].select(axis, row)
    for at, layer in now.layers.items():
        for place, row in source.rows.items():
            own, old_own = layer.member(place), then.layers[at].member(row)
            _all_there(own, old_own)
            yield from ((f"{at}.{name}", tensor, old_own[name]) for name, tensor in own.items())


def _all_there(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """More may be there: a layer has a memory for all its members when one of them needs it."""
    if missing := now.keys() - then.keys():
        raise StateMismatch(f"without {', '.join(sorted(missing))}")


def _layer(layer: PackLayer | PackAttention) -> LayerState:
    return LayerState(layer.tensors(), [(run.start, run.stop) for run in layer.runs], layer.phases)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


__all__ = ["LayerState", "MemberRows", "State", "StateMismatch", "load_members", "narrowed", "state"]
