"""A layer with several GEMMs whose weights are slices of its parameters: experts, heads, groups of a convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.errors import OptionError
from dse.nn.kinds import gemms
from dse.nn.linear import quantized_linear
from dse.nn.quantized_layer import QuantizedLayer, check_input, untrained
from dse.nn.sharded import is_sharded
from dse.numerics.recipe import Recipe


class QuantizedPart(QuantizedLayer):
    """One GEMM of a layer: its random stream and what its numerics keep between steps, without parameters.

    ``weight`` is the ``owner``'s slice number ``number``, a view.
    """

    def __init__(self, owner: Parted, number: int, recipe: Recipe, layer: int) -> None:
        nn.Module.__init__(self)
        self._owner = (owner, number)  # in a tuple: not a submodule
        self.equip(recipe, layer)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The slice, with that of the gradient where the parameter has one and autograd does not record."""
        owner, number = self._owner
        name, rows = owner.slices[number]
        whole = owner.parameter(name)
        part: Tensor = whole[rows]
        if not part.requires_grad and whole.grad is not None:
            part.grad = whole.grad[rows]
        return part

    def as_matrix(self, weight: Tensor) -> Tensor:
        return self._owner[0].as_matrix(weight)

    def as_weight(self, matrix: Tensor) -> Tensor:
        return self._owner[0].as_weight(matrix, self.weight.shape)

    @property
    def device(self) -> torch.device:
        return next(self._owner[0].parameters()).device

    def check_trained(self) -> None:
        owner, number = self._owner
        parameter = owner.parameter(owner.slices[number][0])
        if not isinstance(parameter, nn.Parameter):
            raise untrained(self)
        if is_sharded(parameter):
            kind = type(owner).__name__
            raise OptionError(f"weights: rules do not act on slices of sharded parameters ({kind}); exempt the layer")

    def reset_parameters(self) -> None:
        """Forgets what was kept between steps."""
        self.restart()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., K], the slice of the owner's weight, bias [N] -> [..., N]."""
        w = self.as_matrix(weight)
        if x.is_meta:
            return F.linear(x, w, bias)
        check_input(self, x, -1, w.shape[1], range(1, 65))
        return quantized_linear(x, w, bias, self.active_recipe, self.context(x))

    def extra_repr(self) -> str:
        n, k = gemms(self._owner[0])[self._owner[1]]
        return f"in_features={k}, out_features={n}, recipe={self.recipe.name!r}"


class Parted(nn.Module):
    """A quantized layer of several GEMMs, made from the plain one in place (``dse.nn.convert.convert``).

    Part i draws its random bits as layer ``layer`` + i; what parts keep between steps is in the state dict under
    ``parts``. ``slices``: for each part, the parameter that holds its weight, and which rows of the first axis.
    """

    quantized_layer: ClassVar[bool] = True
    parts: nn.ModuleList

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The plain layer's attributes."""

    def equip(self, recipe: Recipe, layer: int) -> None:
        """Adds what a plain layer lacks; its class is this one already."""
        self.recipe, self.layer = recipe, layer
        self.slices: list[tuple[str, Any]] = self.sliced()
        parts = [QuantizedPart(self, i, recipe, layer + i) for i in range(len(self.slices))]
        self.parts = nn.ModuleList(parts).train(self.training)

    def sliced(self) -> list[tuple[str, Any]]:
        """See ``slices``."""
        raise NotImplementedError

    def parameter(self, name: str) -> Tensor:
        """A parameter by its path."""
        path, _, last = name.rpartition(".")
        whole: Tensor = getattr(self.get_submodule(path), last)
        return whole

    def as_matrix(self, weight: Tensor) -> Tensor:
        """A slice as W [N, K]."""
        return weight.flatten(1)

    def as_weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of ``as_matrix``, for slices of a shape."""
        return matrix.reshape(shape)

    def reset_parameters(self) -> None:
        """Draws the parameters as the plain layer does, and forgets what was kept between steps."""
        if plain := getattr(super(), "reset_parameters", None):
            plain()
        for part in getattr(self, "parts", ()):
            part.restart()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Parameters first: parts follow their dtype and device."""
        super()._apply(fn, recurse=False)  # type: ignore[no-untyped-call]
        for child in self.children() if recurse else ():
            child._apply(fn)
        return self

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, recipe={self.recipe.name!r}".removeprefix(", ")


__all__ = ["Parted", "QuantizedPart"]
