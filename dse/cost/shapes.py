"""Layer shapes of deployed models, at which costs are stated (not those of the small models trained here)."""

from __future__ import annotations

from dataclasses import dataclass

from dse.errors import UserError

TOKENS = 8192
"""M: one sequence of 8,192 tokens per GPU and step, the pre-training length of Llama 3 (arXiv 2407.21783, Sec. 3)."""


@dataclass(frozen=True)
class LayerShape:
    """A linear layer Y = X W^T with X [tokens, inputs], W [outputs, inputs], that occurs ``count`` times in a model.

    ``roles``: its names in a block, such as 'attention.q', one for each of those it stands for there; none where it is
    of no known model. A model has ``count / len(roles)`` blocks.
    """

    name: str
    tokens: int
    inputs: int
    outputs: int
    count: int = 1
    roles: tuple[str, ...] = ()

    @property
    def flop(self) -> float:
        """Floating-point operations of one GEMM, 2 M K N; fprop, dgrad and wgrad take as many each."""
        return 2.0 * self.tokens * self.inputs * self.outputs

    @property
    def weights(self) -> int:
        """Elements of the matrices of all of these layers."""
        return self.inputs * self.outputs * self.count

    def size(self, tensor: str) -> int:
        """Elements of X [M, K], W [N, K] or G = dL/dY [M, N] (Y and the gradients have their tensors' sizes)."""
        m, k, n = self.tokens, self.inputs, self.outputs
        return {"X": m * k, "W": n * k, "G": m * n}[tensor]

    def __str__(self) -> str:
        return f"{self.name}: M = {self.tokens:,}, K = {self.inputs:,}, N = {self.outputs:,}"


def llama(hidden: int, kv: int, ffn: int, blocks: int, tokens: int = TOKENS) -> tuple[LayerShape, ...]:
    """The seven linears of a Llama block; head and embedding stay in high precision and are left out.

    ``kv``: width of the keys (heads that hold keys and values times 128).
    """
    return (
        LayerShape("attention q, o", tokens, hidden, hidden, 2 * blocks, ("attention.q", "attention.o")),
        LayerShape("attention k, v", tokens, hidden, kv, 2 * blocks, ("attention.k", "attention.v")),
        LayerShape("ffn gate, up", tokens, hidden, ffn, 2 * blocks, ("ffn.gate", "ffn.up")),
        LayerShape("ffn down", tokens, ffn, hidden, blocks, ("ffn.down",)),
    )


# arXiv 2407.21783, Table 3: model dimension, FFN dimension, layers; 8 key/value heads of 128
LLAMA3_8B = llama(hidden=4096, kv=1024, ffn=14336, blocks=32)
LLAMA3_70B = llama(hidden=8192, kv=1024, ffn=28672, blocks=80)

MODELS: dict[str, tuple[LayerShape, ...]] = {"llama3-8b": LLAMA3_8B, "llama3-70b": LLAMA3_70B}
_HEADS = {LLAMA3_8B: 32 * 32, LLAMA3_70B: 64 * 80}
"""Query heads of all layers, of 128 each (arXiv 2407.21783, Table 3)."""
HEAD = 128


def products(layers: tuple[LayerShape, ...]) -> dict[str, LayerShape]:
    """The two products of attention in a model of ``MODELS``, each as a linear; {} for any other layers.

    A query sees half of the sequence's tokens on average: a causal kernel skips what the mask hides. The scores are
    X = Q, W = K, the outputs X = P, W = V^T (``dse.numerics.attention``). Keys and values, which several heads share,
    count once per query head: they are small against the T x T / 2 scores.
    """
    if layers not in _HEADS:
        return {}
    tokens, seen, count = layers[0].tokens, layers[0].tokens // 2, _HEADS[layers]
    return {
        "scores": LayerShape("attention Q K^T, per head", tokens, HEAD, seen, count),
        "outputs": LayerShape("attention P V, per head", tokens, seen, HEAD, count),
    }


def parse_shape(text: str) -> LayerShape:
    """A layer from ``M,K,N`` (tokens, inputs, outputs). Raises UserError for anything else.

    >>> parse_shape("8192,4096,14336").flop
    962072674304.0
    """
    parts = text.replace("x", ",").split(",")
    try:
        tokens, inputs, outputs = (int(part) for part in parts)
    except ValueError:
        tokens = inputs = outputs = 0
    if min(tokens, inputs, outputs) < 1:
        raise UserError(f"shape {text!r}: write three positive integers M,K,N (tokens, inputs, outputs)")
    return LayerShape("layer", tokens, inputs, outputs)
