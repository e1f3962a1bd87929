"""Looking into a training: one more forward and backward pass of the step to come, which leaves nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dse.numerics.recipe import POINTS
from dse.pack.layer import PackLayer
from dse.probes import measures
from dse.probes.layer_look import Look, Seen, looks
from dse.probes.schedule import ProbeRow, Probes

if TYPE_CHECKING:
    from dse.pack.step import TrainStep

_ORDER = {point: place for place, point in enumerate((*POINTS, "dgrad", "wgrad"))}


class Prober:
    """Collects the rows of every trial; ``rows``: uid -> rows in the order of steps, layers and points.

    The same step of the same trial is seen alone and in any pack. It draws no random bits that the training would not
    draw (they are functions of the key), and reads held tensor scales without sampling them.
    """

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.rows: dict[str, list[ProbeRow]] = {}
        self._before: dict[tuple[str, str], Tensor] = {}
        self._now: dict[tuple[str, str], Tensor] = {}

    def __call__(self, program: TrainStep, step: int) -> None:
        """Looks, if it is time, at what ``step`` is about to do to the members that live."""
        if self.probes.due(step):
            self._look(program, step)

    def save(self) -> dict[str, object]:
        """What a checkpoint keeps of it: plain data and tensors."""
        before = [(*name, tensor.cpu()) for name, tensor in (self._before | self._now).items()]
        return {"rows": self.rows, "before": before}

    def restore(self, *saves: Mapping[str, Any]) -> None:
        """The inverse of ``save``, of several packs at once too."""
        self.rows = {uid: list(rows) for saved in saves for uid, rows in saved["rows"].items()}
        self._before = {(uid, layer): tensor for saved in saves for uid, layer, tensor in saved["before"]}
        self._now = {}

    def _look(self, program: TrainStep, step: int) -> None:
        pack, alive = program.pack, program.alive.tolist()
        found: list[dict[str, list[ProbeRow]]] = [{} for _ in pack.trials]
        wanted = {name: layer for name, layer in pack.layers.items() if self.probes.wants(name)}

        @torch.no_grad()
        def tap(name: str, layer: PackLayer, x: Tensor, w: Tensor, g: Tensor, needs: tuple[bool, bool]) -> None:
            layer.tap = None  # of a layer that is used several times, the last use
            for part in layer.references():
                members = part.members
                if any(alive[members]):
                    seen = Seen(x[members], w[members], g[members], needs)
                    for look in looks(part.recipe, seen, layer.context(part)):
                        self._note(found, program, name, step, part.start, look)

        try:
            for name, layer in wanted.items():
                layer.tap = partial(tap, name, layer)
            objective = program.objective(sampling=False)[-1]
            torch.autograd.grad(objective, list(pack.leaf_parameters.values()), allow_unused=True)
        finally:
            for layer in wanted.values():
                layer.tap = None
        self._before, self._now = self._before | self._now, {}
        once = {trial.uid: i for i, trial in enumerate(pack.trials)}  # a trial may stand in a pack twice
        for uid, i in once.items():
            by_layer, rows = found[i], self.rows.setdefault(uid, [])
            if alive[i]:
                rows += [row for name in wanted for row in sorted(by_layer.get(name, []), key=lambda r: _ORDER[r[2]])]

    def _note(
        self, found: list[dict[str, list[ProbeRow]]], program: TrainStep, name: str, step: int, start: int, look: Look
    ) -> None:
        """Writes a look down, for each of its members from ``start`` on."""
        table = torch.stack(list(look.values.values())).mT.tolist()
        for i, numbers in enumerate(table):
            values: dict[str, object] = {
                key: measures.plain(value) for key, value in zip(look.values, numbers, strict=True)
            }
            if look.scales is not None:
                values["scales"] = look.scales[i]
            if look.elements is not None:
                own = (program.pack.trials[start + i].uid, name)
                now, before = look.elements[i], self._before.get(own)
                if before is not None:
                    values["changed"] = measures.plain(float(measures.changed(now, before.to(now.device))))
                self._now[own] = now
            found[start + i].setdefault(name, []).append([step, name, look.point, values])
