"""A pack: the stacked model of E trials, its losses and its gradients.

All parameters of all members are one float32 buffer [E, P]; a parameter is a view of it. ``torch.func.vmap`` runs the
task's plain model over the members. Autograd outside of it gives each member its own gradient, because the sum of the
losses has no cross terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dse.nn.select import attentions, chosen, linears, swap
from dse.optim.layout import Layout
from dse.pack.attention import PackAttention, PackedAttention
from dse.pack.distillation import Teacher
from dse.pack.grouping import attention_recipes, layer_recipes
from dse.pack.layer import PackLayer
from dse.pack.linear import PackedLinear, packed
from dse.pack.mixed_precision import LayerPrecision, WorkingParameters, widened
from dse.pack.rule_state import RuleState
from dse.pack.shared_operands import SharedOperands
from dse.pack.starts import Weights, first_models
from dse.recipes.bf16 import BF16
from dse.tasks.base import Batch
from dse.trial import Trial


class Pack:
    """Stacked model of ``trials`` of one signature, already in the order of ``member_order``, on ``device``.

    ``flat`` [E, P]: the parameters; ``grad`` [E, P]: their gradients; ``clock`` int64 [E, 2]: (seed, step);
    ``layers``: the linear layers, by the template's names; ``attentions``: the attentions with quantized products.
    ``weights``: the parameters of the trials that members start from, by uid; None, for measurements of speed alone:
    all members start from the task's initialization. Members whose training is distilled have what they start from as
    their teacher. Raises UserError when the task's model has no linear.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        data: Any,
        device: torch.device | str,
        use_kernels: bool,
        weights: Weights | None = None,
    ) -> None:
        self.trials, self.device = tuple(trials), torch.device(device)
        self.task = trials[0].task
        with self.device if self.device.type == "meta" else nullcontext():  # which has no numbers to initialize
            models = first_models(trials, data, weights)
        parameters = dict(models[0].named_parameters())
        self.layout = Layout.of(parameters.items(), _hidden(models[0], self.task.exempt()))
        stacks = [
            torch.stack([p.detach() for p in same]) for same in zip(*(m.parameters() for m in models), strict=True)
        ]
        self.flat = self.layout.join(stacks).to(self.device)
        self._teacher = Teacher.of(trials, self.task, self.flat)
        self.grad = torch.zeros_like(self.flat)
        self.views = self.layout.views(self.flat)
        self.buffers, self._buffer_dims = _stacked_buffers(models, self.device)
        seeds = torch.tensor([trial.seed for trial in trials], dtype=torch.int64, device=self.device)
        self.clock = torch.stack([seeds, torch.zeros_like(seeds)], -1)
        self.attentions, self._shared = self._attentions(models[0], use_kernels), SharedOperands()
        self.template, self.layers = self._template(models[0], use_kernels)
        self._ruled = any(run.recipe and run.recipe.weights for layer in self.layers.values() for run in layer.runs)
        self._rules = RuleState(self.layers.values())
        self.working = WorkingParameters(self.template, PackedLinear, trials[0].training.activations)

    @property
    def seeds(self) -> Tensor:
        """int64 [E]."""
        return self.clock[:, 0]

    @property
    def step(self) -> Tensor:
        """int64 [], the same for all members."""
        return self.clock[0, 1]

    def losses(self, batch: Batch, sampling: bool = True) -> Tensor:
        """The training losses [E] of stacked batches, with gradients to ``leaves``.

        Without ``sampling``, what layers keep between steps is read and left alone, in the backward pass too.
        """
        loss: Callable[..., Tensor] = self.task.loss
        if self._teacher is not None:
            loss, batch = self._teacher.loss, (*batch, self._predictions(self._teacher, batch), self._teacher.shares)
        self._train(True)
        for module in self.stateful.values():
            module.training, module.calls = sampling, 0
        losses: Tensor = self._map(loss, self.leaves(), batch, 0)
        return losses

    def _predictions(self, teacher: Teacher, batch: Batch) -> Tensor:
        """The logits [E, ...] of the teachers' models for stacked batches, as the baseline recipe computes them."""
        self._train(False)
        with torch.no_grad(), self.as_baseline():
            logits: Tensor = self._map(teacher.logits, self.layout.views(teacher.flat), batch, 0)
        return logits

    def leaves(self) -> dict[str, Tensor]:
        """The parameters as leaves of a new graph; they share the buffer's memory."""
        self.leaf_parameters = {name: view.detach().requires_grad_() for name, view in self.views.items()}
        return self.leaf_parameters

    def backward(self, loss: Tensor) -> None:
        """Fills ``grad`` with the gradient of ``loss`` [], the sum over members, at the last ``losses``."""
        leaves = list(self.leaf_parameters.values())
        gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, leaves, allow_unused=True)
        found = zip(gradients, self.gradient_views.values(), strict=True)
        self.layout.join([torch.zeros_like(view) if g is None else g for g, view in found], out=self.grad)

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """The task's held-out measures of one shared batch, each [E]."""
        self._train(False)
        with torch.no_grad():
            measures: dict[str, Tensor] = self._map(self.task.measure, self.views, batch, None)
        return measures

    def samples(self, data: Any) -> Tensor | None:
        """Each member's samples for the task's fixed prompts, [E, ...]; None where the task generates nothing."""
        prompts = self.task.prompts(data)
        if prompts is None:
            return None
        self._train(False)
        with torch.no_grad():
            samples: Tensor = self._map(self.task.samples, self.views, prompts, None)
        return samples

    def apply_rules(self, method: str, active: Tensor) -> None:
        """Weight rules act: ``before_step`` on gradients, after clipping, before the optimizer; ``after_step`` on
        weights, after it. Members that skip the step stay as they are: ``active`` bool [E]."""

        def change() -> None:
            for layer in self.layers.values():
                layer.apply_rules(method, active)

        if self._ruled and all(layer.keeps_skipped for layer in self.layers.values()):
            change()
        elif self._ruled:
            self._rules.keep(active, change)

    @contextmanager
    def as_baseline(self) -> Iterator[None]:
        """Inside, every member computes as it would under the baseline recipe ``bf16``."""
        with ExitStack() as stack:
            for module in self.stateful.values():
                stack.enter_context(module.as_baseline())
            yield

    def reschedule(self, step: int, steps: int) -> bool:
        """Lets precision schedules set the phases of ``step``; whether any has changed."""
        changed = [module.reschedule(step, steps) for module in self.stateful.values()]
        return any(changed)

    def refresh(self, step: int) -> None:
        """Lets decompositions look at the weights before a step; outside of CUDA graphs."""
        for layer in self.layers.values():
            layer.refresh(step)

    @property
    def stateful(self) -> dict[str, PackLayer | PackAttention]:
        """The layers and attentions, which have phases and state per member, by the template's names."""
        return {**self.layers, **self.attentions}

    @property
    def scheduled(self) -> bool:
        """Whether any member has a precision schedule."""
        return any(own.schedule is not None for trial in self.trials for own in trial.recipe.numerics)

    def _map(self, function: Callable[..., Any], parameters: dict[str, Tensor], batch: Batch, batch_dim: Any) -> Any:
        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch) -> Any:
            def model(*x: Tensor) -> Tensor:
                y: Tensor = widened(functional_call(self.template, (parameters, buffers), x, tie_weights=False))
                return y

            return function(model, batch)

        working = self.working.of(parameters)
        try:
            return vmap(one, in_dims=(0, self._buffer_dims, batch_dim))(working, self.buffers, batch)
        finally:
            self._shared.clear()

    def _train(self, training: bool) -> None:
        self.template.train(training)
        for module in self.stateful.values():
            module.training, module.calls = training, None

    def _attentions(self, model: nn.Module, use_kernels: bool) -> dict[str, PackAttention]:
        recipes, order, packed_attentions = attention_recipes(self.trials, model), attentions(model), {}
        for name, module in [(n, m) for n, m in model.named_modules() if m in recipes]:
            packed_attentions[name] = PackAttention(module, recipes[module], self.clock, order[module], use_kernels)
        swap(model, {own.plain: PackedAttention(own) for own in packed_attentions.values()})
        return packed_attentions

    def _template(self, model: nn.Module, use_kernels: bool) -> tuple[nn.Module, dict[str, PackLayer]]:
        recipes, order = layer_recipes(self.trials, model), linears(model)
        rounded = chosen(model, BF16, exempt=self.task.exempt())
        self.gradient_views = self.layout.views(self.grad)
        names = {id(p): name for name, p in model.named_parameters()}
        made, layers = {}, {}
        for name, linear in [(n, m) for n, m in model.named_modules() if m in order]:
            weight = names[id(linear.weight)]
            w = self.views[weight].flatten(2)
            precision = LayerPrecision.of(self.trials[0].training.activations, linear in rounded)
            layer = PackLayer(recipes[linear], w, self.clock, order[linear], use_kernels, precision)
            layer.shared, layer.grad = self._shared, self.gradient_views[weight].flatten(2)
            made[linear] = packed(linear)
            made[linear].layer = layers[name] = layer
        swap(model, made)
        return model, layers


def _hidden(model: nn.Module, exempt: Sequence[str]) -> list[str]:
    """Names of the weights of hidden linears and convolutions: of those that a task lets recipes quantize."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(layer.weight)] for layer in chosen(model, BF16, exempt=exempt) if layer in linears(model)]


def _stacked_buffers(models: Sequence[nn.Module], device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Buffers of the template; those that differ between members are stacked (dimension 0), the others shared."""
    buffers: dict[str, Tensor] = {}
    dims: dict[str, Any] = {}
    everybody = [dict(model.named_buffers()) for model in models]
    for name, first in everybody[0].items():
        same = first.is_meta or all(torch.equal(first, other[name]) for other in everybody)
        buffers[name] = (first if same else torch.stack([other[name] for other in everybody])).to(device)
        dims[name] = None if same else 0
    return buffers, dims
