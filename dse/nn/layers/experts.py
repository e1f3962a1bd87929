"""Quantized experts of a mixture whose weights are 3-D parameters, as ``transformers`` holds them.

Each expert multiplies the tokens that the router sends it: two GEMMs, gate and up together, then down, each quantized
like a linear layer of its own. What lies between is the plain class's own code, so gates, clamps and interleaved
layouts are those of the model.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dse.nn.kinds import routed
from dse.nn.layers.parts import Parted
from dse.nn.uncompiled import uncompiled
from dse.numerics.recipe import Recipe


class QuantizedExperts(Parted):
    """Takes the place of experts whose class states its layout (``transformers``' ``use_experts_implementation``).

    Parts 0 to E - 1 are the experts' first GEMMs, [2 I, H] or [I, H] without a gate; E to 2 E - 1 their second, [H, I].
    An expert without tokens computes nothing. Whatever ``experts_implementation`` the model asks for, this is the one.
    """

    made_of: ClassVar[type[nn.Module]]

    def equip(self, recipe: Recipe, layer: int) -> None:
        super().equip(recipe, layer)
        self.active = routed(self)

    def sliced(self) -> list[tuple[str, Any]]:
        first = "gate_up_proj" if self.has_gate else "up_proj"
        return [(name, expert) for name in (first, "down_proj") for expert in range(self.num_experts)]

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.mT if self.is_transposed else weight

    def as_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        return matrix.mT if self.is_transposed else matrix

    @uncompiled
    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Tokens [T, H], the experts chosen for each [T, k] and their weights [T, k] -> [T, H]."""
        if hidden_states.is_meta:
            return torch.empty_like(hidden_states)
        experts, chosen = self.num_experts, top_k_index.shape[-1]
        order = top_k_index.reshape(-1).argsort(stable=True)
        counts = torch.bincount(top_k_index.reshape(-1), minlength=experts).tolist()
        sent = hidden_states[order // chosen].split(counts)
        weights = [self.parameter(name) for name in dict.fromkeys(name for name, _ in self.slices)]
        out = [self._expert(i, x, weights) for i, x in enumerate(sent[:experts]) if len(x)]
        out += [x.new_zeros(x.shape) for x in sent[experts:]]  # numbers past the last expert: computed elsewhere
        if not out:
            return torch.zeros_like(hidden_states)
        y = torch.cat(out)
        if getattr(self, "has_post_expert_norm", False):
            y = self.post_expert_norm(y)
        y = y * top_k_weights.reshape(-1)[order].unsqueeze(-1)
        whole: Tensor = y[order.argsort()].view(*top_k_index.shape, -1).sum(1).to(hidden_states.dtype)
        return whole

    def _expert(self, i: int, x: Tensor, weights: list[Tensor]) -> Tensor:
        biases: tuple[Any, Any] = (None, None)
        if self.has_bias:
            biases = self.parameter(f"{self.slices[0][0]}_bias")[i], self.down_proj_bias[i]
        h = self.parts[i](x, weights[0][i], biases[0])
        h = self._apply_gate(h) if self.has_gate else self.act_fn(h)
        y: Tensor = self.parts[self.num_experts + i](h, weights[1][i], biases[1])
        return y

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The class is made for the plain one, so that pickle has to be told how."""
        return _empty, (self.made_of,), self.__dict__


_CLASSES: dict[type[nn.Module], type[QuantizedExperts]] = {}


def experts_class(plain: type[nn.Module]) -> type[QuantizedExperts]:
    """The quantized class for a class of experts, and derived from it."""
    if plain not in _CLASSES:
        _CLASSES[plain] = type(f"Quantized{plain.__name__}", (QuantizedExperts, plain), {"made_of": plain})
    return _CLASSES[plain]


def _empty(plain: type[nn.Module]) -> Any:
    made = experts_class(plain)
    return made.__new__(made)


__all__ = ["QuantizedExperts", "experts_class"]
