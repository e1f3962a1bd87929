"""One linear layer of a pack: its members' recipes, phases and state, and the segments that compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from torch import Tensor

from dse import fused
from dse.fused import RuleStep
from dse.nn.clock import numbered
from dse.nn.quantized_layer import holds, in_phase
from dse.numerics.linear_gemms import LinearContext
from dse.numerics.points import Point
from dse.numerics.random import Key
from dse.numerics.recipe import POINTS, Recipe
from dse.numerics.techniques.schedules.base import FULL, OFF, SWITCHED, Watch
from dse.pack.fused_quantizer import by_kernels
from dse.pack.mixed_precision import LayerPrecision
from dse.pack.segmentation import known_rule_step, partition
from dse.pack.segments import Reference, Segment
from dse.pack.shared_operands import SharedOperands

Tap = Callable[[Tensor, Tensor, Tensor, tuple[bool, bool]], None]
"""Callback of a layer's backward pass: X [E, M, K], W [E, N, K], G [E, M, N], and which gradients are computed."""


@dataclass(frozen=True)
class MemberRun:
    """Members ``start`` to ``stop`` (excluded) under one recipe, None where it leaves the layer alone.

    ``state``: the weight rule's tensors; ``watch``: float32 [members, 2] for the precision schedule, or None;
    ``parts``: the decomposition's tensors.
    """

    start: int
    stop: int
    recipe: Recipe | None
    state: dict[str, Tensor]
    watch: Tensor | None
    parts: dict[str, Tensor] = field(default_factory=dict)

    @property
    def members(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def keeps(self) -> bool:
        """Whether the passes of a step use tensors of the members' own."""
        rule = None if self.recipe is None else self.recipe.weights
        return self.watch is not None or bool(self.parts) or (rule is not None and rule.quantizes)


class PackLayer:
    """One linear layer of E members: their recipes, phases, memory, and the segments that compute it.

    ``recipes`` [E]: None where a member's recipe (or the task) leaves the layer in full precision; ``w`` [E, N, K];
    ``clock`` int64 [E, 2], shared by all layers; ``index``: of the layer's random stream; ``precision``: format of
    activations, and what members compute where they have no recipe, or their baseline's.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe | None],
        w: Tensor,
        clock: Tensor,
        index: int,
        use_kernels: bool,
        precision: LayerPrecision = LayerPrecision(),  # noqa: B008 - frozen
    ) -> None:
        self.w, self.clock, self._index, self._use_kernels = w, clock, index, use_kernels
        self.precision = precision
        self.grad: Tensor | None = None
        self.runs = tuple(_runs(recipes, w))
        self.phases = [FULL] * len(recipes)
        remembers = any(r is not None and holds(r) for r in recipes)
        self._memory = torch.zeros(len(recipes), len(POINTS), device=w.device) if remembers else None
        self.training = True
        self.calls: int | None = None
        self.tap: Tap | None = None
        self.shared: SharedOperands | None = None
        self.segments: tuple[Segment, ...] = ()
        self.arrange()

    def arrange(self) -> None:
        """Divides the members into segments, at their present phases."""
        self.segments = partition(*self._effective(), self.w.device, self._use_kernels)

    @contextmanager
    def as_baseline(self) -> Iterator[None]:
        """Within this context every member computes as under the baseline recipe."""
        own, baseline = self.segments, [self.precision.baseline] * len(self.phases)
        self.segments = partition(baseline, [None] * len(baseline), self.w.device, self._use_kernels)
        try:
            yield
        finally:
            self.segments = own

    def references(self) -> tuple[Reference, ...]:
        """The quantized members in runs of one recipe, each computed by the reference, at their present phases."""
        effective, owners = self._effective()
        parts = []
        for _, run in groupby(range(len(effective)), lambda i: (effective[i], owners[i])):
            members = list(run)
            if (recipe := effective[members[0]]) is not self.precision.plain:
                parts.append(Reference(members[0], members[-1] + 1, recipe))
        return tuple(parts)

    def _effective(self) -> tuple[list[Recipe], list[int | None]]:
        """Every member's recipe at its present phase, and the number of the run whose tensors it uses, or None."""
        plain = self.precision.plain
        effective = [plain] * len(self.phases)
        owners: list[int | None] = [None] * len(self.phases)
        for number, run in enumerate(self.runs):
            for i in range(run.start, run.stop):
                effective[i] = plain if run.recipe is None else in_phase(run.recipe, self.phases[i])
                owners[i] = number if run.keeps else None
        return effective, owners

    def reschedule(self, step: int, steps: int) -> bool:
        """Lets precision schedules set the phases of ``step``; whether any has changed."""
        before = list(self.phases)
        for run in self.runs:
            schedule = run.recipe.schedule if run.recipe else None
            if schedule is None:
                continue
            seen = None if run.watch is None or run.watch.is_meta else run.watch.cpu()
            for i in range(run.start, run.stop):
                known = seen is not None and bool(seen[i - run.start].isfinite().all())
                watch = Watch(*seen[i - run.start]) if seen is not None and known else None
                self.phases[i] = schedule.phase(step, steps, watch, self.phases[i])
        if self.phases == before:
            return False
        self.arrange()
        return True

    @torch.no_grad()
    def refresh(self, step: int) -> None:
        """Lets decompositions look at the weights before a training step."""
        for run in self.runs:
            if run.parts and run.recipe is not None and run.recipe.decomposition is not None:
                run.recipe.decomposition.refresh(self.w[run.members].detach(), run.parts, step)

    def entering(self, x: Tensor) -> Tensor:
        """An input of the layer in the format of activations."""
        return x.bfloat16() if self.precision.dtype == torch.bfloat16 else x

    def next_call(self) -> int:
        """The number of this forward call within the step, counted from 0; in evaluation every call is call 0."""
        if self.calls is None:
            return 0
        self.calls += 1
        return self.calls - 1

    def context(self, segment: Segment, call: int = 0) -> LinearContext:
        """Random key and state of a segment's members. A segment never crosses the end of a run that ``keeps``.

        ``call``: which of the step's uses of the layer it is; each draws random bits of its own (``dse.nn.clock``).
        """
        key = self._key(segment.members)
        key = replace(key, clock=numbered(key.clock, call)) if call else key
        for run in self.runs:
            if run.keeps and run.start <= segment.start and segment.stop <= run.stop:
                part = slice(segment.start - run.start, segment.stop - run.start)
                watch = run.watch[part] if run.watch is not None and self.training else None
                state, parts = ({name: t[part] for name, t in own.items()} for own in (run.state, run.parts))
                return LinearContext(key, state, watch, parts)
        return LinearContext(key)

    def snapshot(self) -> tuple[Tensor, ...]:
        """Copies of the state that the passes of a step change: held tensor scales, what decompositions measure and
        values that schedules watch."""
        return tuple(tensor.clone() for _, tensor in self._sampling_state())

    def restore(self, before: tuple[Tensor, ...], active: Tensor) -> None:
        """Restores members that skip the step to a ``snapshot`` taken before it. ``active`` bool [E]."""
        for (members, now), then in zip(self._sampling_state(), before, strict=True):
            now.copy_(torch.where(active[members].unsqueeze(-1), now, then))

    def _sampling_state(self) -> list[tuple[slice, Tensor]]:
        held = [] if self._memory is None else [(slice(None), self._memory)]
        held += [(run.members, tensor) for run in self.runs for tensor in run.parts.values()]
        return held + [(run.members, run.watch) for run in self.runs if run.watch is not None]

    def apply_rules(self, method: str, active: Tensor) -> None:
        """Weight rules act: ``before_step`` on gradients, ``after_step`` on weights. ``active`` bool [E].

        W and its gradient are left alone in members that skip the step; the rules' own tensors are not (``RuleState``).
        """
        for run in self.runs:
            if run.recipe is None or run.recipe.weights is None or self.phases[run.start] in (OFF, SWITCHED):
                continue
            w = self.w[run.members]
            grad = None if self.grad is None else self.grad[run.members]
            key = replace(self._key(run.members), point=Point.FPROP_RHS)
            if (step := self._rule_step(run)) is not None:
                if method == "before_step":
                    step.before_step(w, grad, run.state, active[run.members])
                else:
                    step.after_step(w, run.state, active[run.members], key)
                continue
            w.grad = grad
            touched = [w] + ([] if grad is None else [grad])
            old = [t.clone() for t in touched]
            quantizer = by_kernels(run.recipe.fprop.rhs) if self._use_kernels else run.recipe.fprop.rhs
            getattr(run.recipe.weights, method)(quantizer, w, run.state, key)
            for now, then in zip(touched, old, strict=True):
                torch.where(active[run.members].view(-1, *[1] * (now.dim() - 1)), now, then, out=now)

    @property
    def keeps_skipped(self) -> bool:
        """Whether kernels compute all weight rules, which leave the rules' tensors alone where a step is skipped."""
        return all(self._rule_step(r) is not None for r in self.runs if r.recipe is not None and r.recipe.weights)

    def _rule_step(self, run: MemberRun) -> RuleStep | None:
        """The kernels of a run's weight rule; None: plain torch's affair."""
        assert run.recipe is not None
        assert run.recipe.weights is not None
        rule, quantizer = run.recipe.weights, run.recipe.fprop.rhs
        if not self._use_kernels or fused.uncovered_rule(rule, quantizer):
            return None
        return known_rule_step(rule, quantizer, run.stop - run.start, str(self.w.device))

    def _key(self, members: slice) -> Key:
        memory = None if self._memory is None else self._memory[members]
        return Key(self.clock[members], self._index, 0, 0, memory, self.training)

    def tensors(self) -> dict[str, Tensor]:
        """The state that outlives a step, by its key in checkpoints (not copied)."""
        kept = {} if self._memory is None else {"memory": self._memory}
        for i, run in enumerate(self.runs):
            kept |= {f"{i}.{name}": t for name, t in run.state.items()}
            kept |= {f"{i}.parts_{name}": t for name, t in run.parts.items()}
            kept |= {} if run.watch is None else {f"{i}.watch": run.watch}
        return kept


def _runs(recipes: Sequence[Recipe | None], w: Tensor) -> list[MemberRun]:
    runs = []
    for recipe, group in groupby(range(len(recipes)), lambda i: recipes[i]):
        members = list(group)
        part = w[members[0] : members[-1] + 1].detach()
        state: dict[str, Tensor] = {}
        if recipe is not None and recipe.weights is not None:
            recipe.weights.check(recipe.fprop.rhs, recipe.fprop.rotation is not None)
            state = _stacked([recipe.weights.state(one) for one in part])
        parts: dict[str, Tensor] = {}
        if recipe is not None and recipe.decomposition is not None:
            parts = _stacked([recipe.decomposition.state(one) for one in part])
        watches = recipe is not None and recipe.schedule is not None and recipe.schedule.watches
        watch = torch.full((len(members), 2), torch.nan, device=w.device) if watches else None
        runs.append(MemberRun(members[0], members[-1] + 1, recipe, state, watch, parts))
    return runs


def _stacked(alone: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Each member's tensors by name, stacked."""
    return {name: torch.stack([own[name] for own in alone]) for name in alone[0]}
