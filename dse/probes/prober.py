"""Prober of a running pack: repeats forward and backward pass of the next step, without changing any state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dse.numerics.recipe import POINTS
from dse.pack.layer import PackLayer
from dse.probes import measures
from dse.probes.layer_look import Look, Seen, looks
from dse.probes.schedule import ProbeRow, Probes
from dse.probes.tapping import show_operands

if TYPE_CHECKING:
    from dse.pack.step import TrainStep

_ORDER = {point: place for place, point in enumerate((*POINTS, "dgrad", "wgrad"))}


class Prober:
    """Measures quantization errors in the layers; ``rows``: uid -> rows in the order of steps, layers and points.

    A trial's rows are the same alone and in any pack. Random bits are functions of the key, so probing changes none of
    the training's; held tensor scales are read and not updated.
    """

    missing = "probes_missing_because"

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.rows: dict[str, list[ProbeRow]] = {}
        self._before: dict[tuple[str, str], Tensor] = {}
        self._now: dict[tuple[str, str], Tensor] = {}

    def __call__(self, train_step: TrainStep, step: int) -> None:
        """Probes the active members before ``step``, where the schedule asks for it."""
        if self.probes.due(step):
            self._probe(train_step, step)

    def state_dict(self) -> dict[str, object]:
        """Plain data and tensors for a checkpoint."""
        before = [(*name, tensor.cpu()) for name, tensor in (self._before | self._now).items()]
        return {"rows": self.rows, "before": before}

    def load_state_dict(self, *states: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``; several states are those of packs whose members are now together."""
        self.rows = {uid: list(rows) for saved in states for uid, rows in saved.get("rows", {}).items()}
        self._before = {(uid, layer): tensor for saved in states for uid, layer, tensor in saved.get("before", ())}
        self._now = {}

    def _probe(self, train_step: TrainStep, step: int) -> None:
        pack, alive = train_step.pack, train_step.alive.tolist()
        found: list[dict[str, list[ProbeRow]]] = [{} for _ in pack.trials]
        wanted = {name: layer for name, layer in pack.layers.items() if self.probes.wants(name)}

        def tap(name: str, layer: PackLayer, x: Tensor, w: Tensor, g: Tensor, needs: tuple[bool, bool]) -> None:
            for part in layer.references():
                members = part.members
                if any(alive[members]):
                    seen = Seen(x[members], w[members], g[members], needs)
                    for look in looks(part.recipe, seen, layer.context(part)):
                        self._add_rows(found, train_step, name, step, part.start, look)

        show_operands(train_step, wanted, tap)
        self._before, self._now = self._before | self._now, {}
        once = {trial.uid: i for i, trial in enumerate(pack.trials)}  # a trial may be in a pack twice
        for uid, i in once.items():
            by_layer, rows = found[i], self.rows.setdefault(uid, [])
            if alive[i]:
                rows += [row for name in wanted for row in sorted(by_layer.get(name, []), key=lambda r: _ORDER[r[2]])]

    def _add_rows(
        self,
        found: list[dict[str, list[ProbeRow]]],
        train_step: TrainStep,
        name: str,
        step: int,
        start: int,
        look: Look,
    ) -> None:
        """Adds a row for each member of a look, from member ``start`` on."""
        table = torch.stack(list(look.values.values())).mT.tolist()
        for i, numbers in enumerate(table):
            values: dict[str, object] = {
                key: measures.plain(value) for key, value in zip(look.values, numbers, strict=True)
            }
            if look.scales is not None:
                values["scales"] = look.scales[i]
            if look.elements is not None:
                own = (train_step.pack.trials[start + i].uid, name)
                now, before = look.elements[i], self._before.get(own)
                if before is not None:
                    values["changed"] = measures.plain(float(measures.changed(now, before.to(now.device))))
                self._now[own] = now
            found[start + i].setdefault(name, []).append([step, name, look.point, values])
