"""The train step of a pack: forward, backward and optimizer update of all members as tensor code, and its state.

No line of a step waits for the device or depends on a tensor's value in Python, so a CUDA graph can capture it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError, nearest
from dse.optim import make_optimizer
from dse.optim.base import Hyper
from dse.optim.layout import clip
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.pack.pack import Pack
from dse.pack.starts import Weights
from dse.trial import Trial

BOUND = 20.0
"""A training loss above this multiple of the first step's (plus one) counts as diverged."""


class TrainStep:
    """``trials`` of one signature in their order; ``data`` on ``device``. ``step()`` updates every active member once.

    ``weights``: the trained weights that they need of other trials, see ``Pack``.

    ``alive`` bool [E]: false for members that are frozen, because they diverged or by ``freeze``; ``diverged_at`` int64
    [E]: the step of divergence, -1 before; ``log`` [steps, E]: training losses; ``norms`` [E, n]: gradient norms per
    parameter, of a frozen member those of its last step. A frozen member's parameters stay as they were. A member whose
    step loss scaling skips keeps parameters, optimizer state, held tensor scales and weight rules' tensors; its clock
    moves on. Raises UserError for an unknown optimizer or loss scaling.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        data: Any,
        device: torch.device | str,
        use_kernels: bool,
        weights: Weights | None = None,
    ) -> None:
        t = trials[0].training
        optimizer = make_optimizer(t.optimizer, t.first_moment, t.second_moment)
        trains_matrices = "muon" in t.optimizer
        if any(trial.training.muon_lr for trial in trials) and not trains_matrices:
            raise UserError(f"training.muon_lr: optimizer {t.optimizer} trains no matrices apart; leave it out")
        if t.loss_scaling not in LOSS_SCALINGS:
            raise UserError(
                f"training.loss_scaling: unknown {t.loss_scaling!r}{nearest(t.loss_scaling, LOSS_SCALINGS)}"
            )
        scaling = LOSS_SCALINGS[t.loss_scaling]
        self.pack = pack = Pack(trials, data, device, use_kernels, weights)
        self.use_kernels, self.weights = use_kernels, weights
        self.task, self.data, self.steps, self.batch = trials[0].task, data, t.steps, t.batch
        self._optimizer, self._scaling = optimizer, scaling() if scaling else None
        self._optimizer_state = self._optimizer.state(pack.flat, pack.layout)
        self._decayed = None if t.decayed == "all" else pack.layout.matrices()
        self._scaling_state = self._scaling.state(len(trials), pack.device) if self._scaling else {}
        every = [trial.training for trial in trials]
        kinds = [(one.warmup, one.schedule, one.final_lr) for one in every]
        shares = {kind: one.course() for kind, one in dict(zip(kinds, every, strict=True)).items()}
        self._lr_shares = torch.from_numpy(np.stack([*shares.values()], axis=1)).to(pack.device)  # [steps, kinds]
        self._lr_kind = torch.tensor([[*shares].index(kind) for kind in kinds], device=pack.device)
        self._lr, self._matrix_lr, self._betas, self._decay, self._limit = (
            torch.tensor(values, dtype=torch.float64, device=pack.device)
            for values in (
                [[one.lr] for one in every],
                [[one.muon_lr or one.lr] for one in every],
                [one.betas for one in every],
                [[one.weight_decay] for one in every],
                [[x.clip] for x in every],
            )
        )
        members = len(trials)
        self.alive = torch.ones(members, dtype=torch.bool, device=pack.device)
        self.diverged_at = torch.full((members,), -1, dtype=torch.int64, device=pack.device)
        self.log = torch.full((t.steps, members), math.nan, device=pack.device)
        self.norms = torch.zeros(members, len(pack.layout.names), device=pack.device)
        self._bound = torch.zeros(members, device=pack.device)

    def step(self) -> None:
        """One training step: batch, losses, gradients, clipping, weight rules, optimizer; then the clock moves on."""
        pack, now = self.pack, self.pack.step
        snapshots = [layer.snapshot() for layer in pack.layers.values()] if self._scaling else []
        losses, factor, objective = self.objective()
        pack.backward(objective)
        with torch.no_grad():
            losses, g = losses.detach(), pack.grad
            ok = self.alive
            if self._scaling and factor is not None:
                g.mul_((1 / factor)[:, None])
                ok = self._scaling.good(g)
            norms = pack.layout.norms(g)
            self._detect_divergence(losses, norms, now)
            active = self.alive & ok
            for layer, before in zip(pack.layers.values(), snapshots, strict=False):
                layer.restore(before, active)
            clip(g, self._limit, norms)
            pack.apply_rules("before_step", active)
            hyper, members = self._hyper(now), active.unsqueeze(-1)
            if self._decayed is not None:
                hyper = self._optimizer.decay(pack.flat, g, hyper, pack.layout, members, self._decayed)
            self._optimizer.update(pack.flat, g, self._optimizer_state, hyper, pack.layout, members)
            pack.apply_rules("after_step", active)
            if self._scaling:
                self._scaling.update(self._scaling_state, ok)
            self.log.index_copy_(0, now.unsqueeze(0), losses.unsqueeze(0))
            pack.clock[:, 1].add_(1)

    def objective(self, sampling: bool = True) -> tuple[Tensor, Tensor | None, Tensor]:
        """This step's training losses [E], their scaling [E] or None, and the sum [] that is differentiated."""
        batch = self.task.batch(self.data, self.pack.seeds, self.pack.step, self.batch)
        losses = self.pack.losses(batch, sampling)
        factor = self._scaling.factor(self._scaling_state) if self._scaling else None
        return losses, factor, (losses if factor is None else losses * factor).sum()

    def evaluate(self) -> dict[str, list[float]]:
        """Every held-out metric of every member, averaged over the held-out items; not finite where one diverged."""
        total: dict[str, Tensor] = {}
        items = 0
        for batch in self.task.held_out(self.data):
            items += len(batch[0])
            for name, value in self.pack.measure(batch).items():
                total[name] = total.get(name, 0.0) + value.double() * len(batch[0])
        return {name: (value / items).tolist() for name, value in total.items()}

    def freeze(self, member: int) -> None:
        """Stops updating a member: from the next step on its parameters stay as they are."""
        self.alive[member] = False

    def divergence_cause(self, member: int) -> str:
        """Why a member diverged: its first parameter or gradient that is not finite, or its loss."""
        views, norms = self.pack.views, self.norms[member].tolist()
        for name, norm in zip(self.pack.layout.names, norms, strict=True):
            if not views[name][member].isfinite().all():
                return f"parameter {name} is not finite"
            if not math.isfinite(norm):
                return f"gradient of {name} is not finite"
        return f"training loss {float(self.log[self.diverged_at[member], member]):g}"

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a step changes, by its key in checkpoints (not copied)."""
        own = {"flat": self.pack.flat, "clock": self.pack.clock, "alive": self.alive, "died": self.diverged_at}
        own |= {"log": self.log, "norms": self.norms, "bound": self._bound}
        own |= {f"optimizer.{name}": t for name, t in self._optimizer_state.items()}
        own |= {f"scaling.{name}": t for name, t in self._scaling_state.items()}
        layers = self.pack.layers.items()
        return own | {f"layer.{at}.{name}": t for at, layer in layers for name, t in layer.tensors().items()}

    def _detect_divergence(self, losses: Tensor, norms: Tensor, now: Tensor) -> None:
        """Freezes members whose loss is not finite or above the bound that their first loss sets."""
        self._bound.copy_(torch.where(now == 0, BOUND * (losses.abs() + 1), self._bound))
        fine = (losses <= self._bound) & losses.isfinite()
        self.norms.copy_(torch.where(self.alive.unsqueeze(-1), norms, self.norms))
        self.diverged_at.copy_(torch.where(self.alive & ~fine, now, self.diverged_at))
        self.alive.logical_and_(fine)

    def _hyper(self, now: Tensor) -> Hyper:
        share = self._lr_shares.index_select(0, now.unsqueeze(0)).mT.index_select(0, self._lr_kind)
        beta1, beta2 = self._betas[:, :1], self._betas[:, 1:]
        return Hyper(self._lr * share, beta1, beta2, self._decay, now, self._matrix_lr * share)
