"""A deployed model as its YAML file describes it: kinds of blocks with their linears, in an order."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator

from dse.cost.described import Described, NonEmpty
from dse.errors import nearest

KINDS = {
    "attention": ("linear", "attention"),
    "ffn": ("linear", "ffn"),
    "expert": ("linear", "ffn", "expert"),
    "mamba": ("linear", "mamba"),
    "router": ("linear", "router"),
    "latent": ("linear",),
    "modulation": ("linear",),
}
"""First word of a linear's role -> the kinds by which rules about layers know it (``LAYER_KINDS``)."""


class Linear(Described):
    """A linear Y = X W^T of a block, before it is split: X [rows, inputs], W [outputs, inputs].

    - ``role``: its name in the block, such as 'attention.q'; the first word says what it is (``KINDS``);
    - ``source``: linears of a block with the same source read the same X, which is quantized once, and with equal
      numerics they run as one GEMM (q, k and v; gate and up). Default: the role, an X of its own;
    - ``split``: the side that tensor parallelism divides, or nothing;
    - ``experts``, ``top_k``: of a layer of experts, each token goes to ``top_k`` of them: an expert has
      tokens * top_k / experts rows on average;
    - ``rows``: a linear per token, or per 'sequence' (modulation by a class, one row for each image);
    - ``exact``: stays in BF16 under any recipe (routers).
    """

    role: NonEmpty
    inputs: PositiveInt
    outputs: PositiveInt
    source: str = ""
    split: Literal["inputs", "outputs"] | None = None
    experts: PositiveInt = 1
    top_k: PositiveInt = 1
    rows: Literal["token", "sequence"] = "token"
    exact: bool = False

    @field_validator("role")
    @classmethod
    def _known_role(cls, role: str) -> str:
        first = role.partition(".")[0]
        if first not in KINDS:
            raise ValueError(f"no kind of layer {first!r}{nearest(first, KINDS)}")
        return role

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the layer, as rules see them."""
        first, _, own = self.role.partition(".")
        return (*KINDS[first], own) if first in ("attention", "ffn", "expert") else KINDS[first]

    @property
    def parameters(self) -> int:
        """Elements of its matrices, all experts counted."""
        return self.inputs * self.outputs * self.experts


class CoreShape(Described):
    """Attention's two products in a block: ``heads`` queries of ``width``; a query sees at most ``window`` tokens."""

    heads: PositiveInt
    width: PositiveInt
    causal: bool = True
    window: PositiveInt | None = None

    def seen(self, sequence: int) -> float:
        """Tokens that a query sees on average."""
        most = min(self.window or sequence, sequence)
        return most if not self.causal else most * (1 - most / (2 * sequence))


class BlockKind(Described):
    """A kind of block.

    ``elementwise``: elements that the forward pass reads and writes outside of linears and attention, per token, each
    operation a kernel of its own (norm 2 hidden, residual 3 hidden, SwiGLU 3 ffn ...); the backward pass twice as many.
    """

    linears: tuple[Linear, ...]
    core: CoreShape | None = None
    elementwise: NonNegativeInt = 0


class Deployed(Described):
    """A model with what its training decides about shapes.

    - ``tokens``: rows of a linear, per group of tensor-parallel GPUs and step; ``sequence``: tokens of a sequence;
    - ``kinds``: name -> block; ``order``: of the blocks, either [[name, count], ...] or, where names are single
      letters, a word of them such as 'M-M-*-';
    - ``tensor_parallel``, ``expert_parallel``: GPUs that share a layer's matrices, and its experts;
    - ``optimizer_shards``: GPUs that share the optimizer's state and work;
    - ``hidden``, ``vocabulary``: of embedding and head, which stay in BF16; a vocabulary of 0: no head to count.
    """

    name: NonEmpty
    title: NonEmpty
    source: NonEmpty
    tokens: PositiveInt
    sequence: PositiveInt
    hidden: PositiveInt
    vocabulary: NonNegativeInt = 0
    tensor_parallel: PositiveInt = 1
    expert_parallel: PositiveInt = 1
    optimizer_shards: PositiveInt = 1
    kinds: dict[str, BlockKind]
    order: str | tuple[tuple[str, PositiveInt], ...]

    @model_validator(mode="after")
    def _consistent(self) -> Deployed:
        if not self.blocks:
            raise ValueError("order: no block")
        for name in dict.fromkeys(self.blocks):
            if name not in self.kinds:
                raise ValueError(f"order: no kind of block {name!r}{nearest(name, self.kinds)}")
        for block in self.kinds.values():
            for linear in block.linears:
                self._splits(linear)
        return self

    def _splits(self, linear: Linear) -> None:
        side = getattr(linear, linear.split) if linear.split else 0
        if side % self.tensor_parallel:
            raise ValueError(f"{linear.role}: {side} {linear.split} do not split among {self.tensor_parallel} GPUs")
        if linear.experts > 1 and linear.experts % self.expert_parallel:
            raise ValueError(f"{linear.role}: {linear.experts} experts do not split among {self.expert_parallel} GPUs")
        if linear.top_k > linear.experts:
            raise ValueError(f"{linear.role}: top_k {linear.top_k} of {linear.experts} experts")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The kind of every block, in the model's order."""
        if isinstance(self.order, str):
            return tuple(self.order)
        return tuple(name for name, count in self.order for _ in range(count))

    @property
    def parameters(self) -> int:
        """Elements of all linears, and of embedding and head."""
        inside = sum(linear.parameters for name in self.blocks for linear in self.kinds[name].linears)
        return inside + 2 * self.hidden * self.vocabulary


__all__ = ["KINDS", "BlockKind", "CoreShape", "Deployed", "Linear"]
