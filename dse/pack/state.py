"""Everything that a step changes in a pack, and taking members of one state over into another program.

Used by halving, whose survivors go on in a narrower program, and by checkpoints.
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
"""Tensors of a program whose members stand on the second axis; on the first one elsewhere."""
_LAYER = "layer."


class Misfit(ValueError):
    """A state that is not one of this program's members."""


class LayerState(NamedTuple):
    """``tensors`` of a layer (or an attention), of which ``number.name`` belong to one of its runs of members.

    ``spans``: [start, stop] of the runs; ``phases`` [E] of the precision schedules.
    """

    tensors: Mapping[str, Tensor]
    spans: Sequence[Sequence[int]]
    phases: Sequence[str]

    def member(self, member: int) -> dict[str, Tensor]:
        """What one member keeps, in place, by names that do not depend on its neighbors."""
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
    """``tensors`` [E, ...] of the program, ``log`` [steps, E]; ``layers``: by the template's names."""

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


def state(program: TrainStep) -> State:
    """What a program changes, in place."""
    own = {name: tensor for name, tensor in program.tensors().items() if not name.startswith(_LAYER)}
    return State(own, {name: _layer(layer) for name, layer in program.pack.places.items()})


class Piece(NamedTuple):
    """Members of a new program that go on from one state: ``rows``: place in the program -> row of ``source``."""

    source: State
    rows: Mapping[int, int]


def take_over(program: TrainStep, *pieces: Piece) -> None:
    """Lets members of a new program go on, bit for bit, where those of other programs are.

    Raises Misfit, and changes nothing, where names, shapes or dtypes differ.
    """
    now = state(program)
    try:
        pairs = [pair for piece in pieces for pair in _pairs(now, piece)]
        phases = [
            (layer, place, piece.source.layers[name].phases[row])
            for name, layer in program.pack.places.items()
            for piece in pieces
            for place, row in piece.rows.items()
        ]
    except (KeyError, IndexError, StopIteration) as error:
        raise Misfit(f"{type(error).__name__}: {error}") from None
    for name, new, old in pairs:
        if new.shape != old.shape or new.dtype != old.dtype:
            raise Misfit(f"{name}: {tuple(old.shape)} {old.dtype} for {tuple(new.shape)} {new.dtype}")
    for _, new, old in pairs:
        new.copy_(old)
    for layer, place, phase in phases:
        layer.phases[place] = phase
    for layer in program.pack.places.values():
        layer.arrange()


def survivors(program: TrainStep, keep: Sequence[int]) -> TrainStep:
    """A program of some members that goes on where theirs is, bit for bit."""
    trials = [program.pack.trials[member] for member in keep]
    narrow = TrainStep(trials, program.data, program.pack.device, program.use_kernels)
    take_over(narrow, Piece(state(program), dict(enumerate(keep))))
    return narrow


def _pairs(now: State, piece: Piece) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, tensor to write, and tensor to read; both are views."""
    then = piece.source
    _all_there(now.tensors, then.tensors)
    _all_there(now.layers, then.layers)
    for name, tensor in now.tensors.items():
        axis = 1 if name in _MEMBERS_LAST else 0
        for place, row in piece.rows.items():
            yield name, tensor.select(axis, place), then.tensors[name].select(axis, row)
    for at, layer in now.layers.items():
        for place, row in piece.rows.items():
            own, old_own = layer.member(place), then.layers[at].member(row)
            _all_there(own, old_own)
            yield from ((f"{at}.{name}", tensor, old_own[name]) for name, tensor in own.items())


def _all_there(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """More may be there: a layer has a memory for all its members when one of them needs it."""
    if missing := now.keys() - then.keys():
        raise Misfit(f"without {', '.join(sorted(missing))}")


def _layer(layer: PackLayer | PackAttention) -> LayerState:
    return LayerState(layer.tensors(), [(run.start, run.stop) for run in layer.runs], layer.phases)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


__all__ = ["LayerState", "Misfit", "Piece", "State", "state", "take_over"]
