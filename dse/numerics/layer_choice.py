"""Which layers of a model a recipe speaks of: by name, kind, position and size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil

from dse.errors import OptionError, nearest

LAYER_KINDS: dict[str, str] = {
    "attention": "projections of attention: q, k, v, qkv and o",
    "q": "projection of the queries",
    "k": "projection of the keys",
    "v": "projection of the values",
    "qkv": "one projection for several of queries, keys and values",
    "o": "projection of attention's output",
    "ffn": "feed-forward layers: up, gate and down",
    "up": "first projection of a feed-forward layer",
    "gate": "its gate",
    "down": "its last projection",
    "expert": "experts, or feed-forward layers inside of experts",
    "router": "choice among experts",
    "mamba": "projections of a state-space layer",
    "head": "output head",
    "convolution": "convolutions",
    "linear": "all that are no convolutions",
    "core": "the two products of attention, Q K^T and P V, which are no layers",
}
"""Kinds of layers, by their names in rules; a layer may be of several: 'linear', 'attention' and 'q'."""


@dataclass(frozen=True)
class LayerPlace:
    """A layer as rules see it.

    ``index`` of ``count``: its number among the layers that can be quantized, -1 for a core; ``block`` of ``blocks``:
    its depth; ``parameters``: elements of its matrices.
    """

    name: str
    kinds: tuple[str, ...] = ()
    index: int = -1
    count: int = 0
    block: int = 0
    blocks: int = 1
    parameters: int = 0


@dataclass(frozen=True)
class Exempt:
    """Linear layers that stay unquantized: the ``first`` and ``last`` n in the model's order, and name patterns.

    ``names`` are fnmatch patterns such as ``blocks.0.*``; upper and lower case are the same, because a recipe speaks of
    kinds of layers (``*attention*``) that models name in their own ways (``SelfAttention``). Raises OptionError for
    negative counts.
    """

    first: int = 0
    last: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < 0:
            raise OptionError(f"exempt.first and exempt.last must be at least 0, not {self.first} and {self.last}")

    def covers(self, index: int, count: int, name: str) -> bool:
        """Whether the layer ``name``, number ``index`` of ``count`` quantizable ones, is exempt."""
        return bool(self.reason(index, count, name))

    def reason(self, index: int, count: int, name: str) -> str:
        """Which part of the rule exempts the layer; empty where none does."""
        if index < self.first:
            return f"among the first {self.first}"
        if index >= count - self.last:
            return f"among the last {self.last}"
        pattern = self.named(name)
        return f"{pattern!r}" if pattern else ""

    def named(self, name: str) -> str | None:
        """The first of the patterns that the name matches."""
        return matching(name, self.names)


@dataclass(frozen=True)
class Which:
    """Layers that a rule speaks of: those that meet every condition which is set; without any, all layers.

    - ``kinds``: of one of these kinds (``LAYER_KINDS``). Attention's products are met by 'core', and by conditions
      without kinds;
    - ``names``: one of these fnmatch patterns matches the name; upper and lower case are the same;
    - position: one of these: among the ``first`` or ``last`` n layers that are quantized, in the model's order; in the
      ``first_blocks`` or ``last_blocks`` n blocks; in the ``first_share`` or ``last_share`` of the blocks, rounded up
      (.15 of 32 blocks: 5). Blocks are numbered by the first number in the layers' names (``dse.nn.places``); what
      comes before them is part of the first, what comes after of the last;
    - ``min_parameters``, ``max_parameters``: the layer's matrices have at least and at most so many elements.

    Raises OptionError for unknown kinds, negative numbers and shares above 1.
    """

    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    first: int = 0
    last: int = 0
    first_blocks: int = 0
    last_blocks: int = 0
    first_share: float = 0.0
    last_share: float = 0.0
    min_parameters: int = 0
    max_parameters: int = 0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in LAYER_KINDS:
                raise OptionError(f"kind: no kind of layers {kind!r}{nearest(kind, LAYER_KINDS)}")
        for name in (*_COUNTS, *_SHARES):
            if getattr(self, name) < 0 or (name in _SHARES and getattr(self, name) > 1):
                valid = "from 0 to 1" if name in _SHARES else "at least 0"
                raise OptionError(f"{name} must be {valid}, not {getattr(self, name):g}")

    def covers(self, place: LayerPlace) -> bool:
        """Whether the rule speaks of a layer, or of an attention's products."""
        if self.kinds and not set(self.kinds) & set(place.kinds):
            return False
        if self.names and not matching(place.name, self.names):
            return False
        if self.min_parameters > place.parameters or 0 < self.max_parameters < place.parameters:
            return False
        return not self._positions or self._at(place)

    @property
    def _positions(self) -> bool:
        return any(getattr(self, name) for name in (*_COUNTS[:4], *_SHARES))

    def _at(self, place: LayerPlace) -> bool:
        """Whether one of the positions is the layer's."""
        ahead = max(self.first_blocks, ceil(self.first_share * place.blocks - 1e-9))
        behind = max(self.last_blocks, ceil(self.last_share * place.blocks - 1e-9))
        numbered = place.index >= 0 and not self.first <= place.index < place.count - self.last
        return numbered or place.block < ahead or place.block >= place.blocks - behind

    def __str__(self) -> str:
        """In few words: 'attention', 'last_share 0.15', '*.down'; 'all' without conditions."""
        words = [" or ".join(values) for values in (self.kinds, self.names) if values]
        words += [f"{name} {getattr(self, name):g}" for name in (*_COUNTS, *_SHARES) if getattr(self, name)]
        return ", ".join(words) or "all"


_COUNTS = ("first", "last", "first_blocks", "last_blocks", "min_parameters", "max_parameters")
_SHARES = ("first_share", "last_share")


def matching(name: str, patterns: Iterable[str]) -> str | None:
    """The first of the patterns that the name matches, in upper or lower case."""
    return next((p for p in patterns if fnmatchcase(name.lower(), p.lower())), None)


__all__ = ["LAYER_KINDS", "Exempt", "LayerPlace", "Which", "matching"]
