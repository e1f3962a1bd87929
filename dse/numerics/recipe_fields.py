"""A recipe as data: the numerics of a linear layer's three GEMMs, and rules that give some layers other numerics."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

from dse.errors import OptionError
from dse.numerics.attention import Attention
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.layer_choice import Exempt, LayerPlace, Which
from dse.numerics.points import GEMMS
from dse.numerics.quantizer import Quantizer
from dse.numerics.techniques.decompositions import Decomposition
from dse.numerics.techniques.post import PostTraining
from dse.numerics.techniques.schedules import Schedule
from dse.numerics.techniques.weights import WeightRule


@dataclass(frozen=True)
class Recipe:
    """Numerics of a quantized linear layer, Y = X W^T with X [M, K], W [N, K], G = dL/dY [M, N].

    - ``fprop``: Y = X W^T, contraction over K;
    - ``dgrad``: dX = G (W^T)^T, contraction over N;
    - ``wgrad``: dW = G^T (X^T)^T, contraction over M (tokens).

    Every operand is quantized along its own contraction axis. ``name``, ``summary`` and ``source`` are for people and
    take no part in a trial's identity.

    - ``backward_source``: what the backward GEMMs quantize as W and X: the 'original' tensors, or the 'forward' copies
      ('double quantization', in the forward GEMM's rotated space: the result is rotated back);
    - ``weights``: a rule about the weights (Q-EMA ...); ``schedule``: which precision at which step;
    - ``exempt``: layers that stay in the baseline's precision;
    - ``attention``: numerics of the two products of softmax attention; none: high precision, fused where possible;
    - ``decomposition``: which parts of the three products are computed in higher precision; none: they are whole;
    - ``layers``: rules in order, of which the first that speaks of a layer decides its numerics (``at``); layers of
      which none speaks have those of the fields above;
    - ``post``: how weights that were trained under ``bf16`` are quantized for the forward GEMM; none: the recipe is one
      to train with. The backward GEMMs then take no part in anything.

    Raises OptionError for an unknown source, and for two rules of one name.
    """

    name: str = field(default="", metadata={"label": True})
    summary: str = field(default="", metadata={"label": True})
    source: str = field(default="", metadata={"label": True})
    fprop: Gemm = field(default_factory=Gemm)
    dgrad: Gemm = field(default_factory=Gemm)
    wgrad: Gemm = field(default_factory=Gemm)
    backward_source: str = "original"
    weights: WeightRule | None = None
    schedule: Schedule | None = None
    exempt: Exempt = field(default_factory=Exempt)
    attention: Attention | None = None
    decomposition: Decomposition | None = None
    layers: tuple[Rule, ...] = ()
    post: PostTraining | None = None

    def __post_init__(self) -> None:
        if self.backward_source not in ("original", "forward"):
            raise OptionError(f"backward_source must be 'original' or 'forward', not {self.backward_source!r}")
        if self.layers:
            names = [rule.name for rule in self.layers]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise OptionError(f"layers: two rules are called {twice!r}; give one another name")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Of all fields, computed once: a recipe is a tree of some hundred objects, and the key of many tables."""
        return hash(tuple(getattr(self, f.name) for f in fields(self) if f.compare))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which is another one in another process."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}

    def quantizer(self, point: str) -> Quantizer:
        """The quantizer at a point such as ``wgrad.rhs``."""
        gemm, side = point.split(".")
        return getattr(getattr(self, gemm), side)  # type: ignore[no-any-return]

    def rule(self, place: LayerPlace) -> Rule | None:
        """The first of the rules that speaks of a layer; none speaks of what ``exempt`` leaves out."""
        return next((rule for rule in self.layers if rule.which.covers(place)), None)

    def at(self, place: LayerPlace) -> Recipe | None:
        """The numerics of a layer, a recipe without rules; None where ``exempt`` or a rule leaves it as it is."""
        if place.index >= 0 and self.exempt.covers(place.index, place.count, place.name):
            return None
        return self.under(self.rule(place)) if self.layers else self

    def under(self, rule: Rule | None) -> Recipe | None:
        """The numerics of layers that a rule speaks of; of those that none speaks of for None."""
        return _under(self, rule)

    @property
    def numerics(self) -> tuple[Recipe, ...]:
        """The different numerics that layers may have, without rules: the recipe's own, and those of its rules."""
        if not self.layers:
            return (self,)
        found = [self.under(None), *map(self.under, self.layers)]
        return tuple(dict.fromkeys(recipe for recipe in found if recipe is not None))

    @property
    def quantizes(self) -> bool:
        """Whether a linear under these numerics has a block quantizer; rules and attention do not count."""
        return any(map(quantizes, (self.fprop, self.dgrad, self.wgrad)))


@dataclass(frozen=True)
class Origin:
    """How a rule's numerics were made: from ``base`` (None: the recipe that has the rule), with options set.

    ``changes``: paths and what YAML holds for each, in the order of the file.
    """

    base: Recipe | None = None
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Rule:
    """Which layers have other numerics than the rest of a model, and which.

    - ``which``: the layers; ``recipe``: their numerics, None where they stay as the model has them;
    - ``optional``: whether a model without such layers is welcome: else the rule is an error there;
    - ``label``: its name in paths of options and messages, by default what ``which`` says;
    - ``origin``: how the numerics were made from others, which options set later build on.

    A recipe that has a precision schedule has it at all layers whose own numerics have none. Raises OptionError for
    numerics that have rules or exempt layers of their own.
    """

    which: Which = field(default_factory=Which)
    recipe: Recipe | None = None
    optional: bool = False
    label: str = field(default="", compare=False, metadata={"label": True})
    origin: Origin | None = field(default=None, compare=False, repr=False, metadata={"label": True})

    def __post_init__(self) -> None:
        if self.recipe is not None and (self.recipe.layers or self.recipe.exempt != Exempt()):
            raise OptionError(
                f"layers.{self.name}: recipe {self.recipe.name!r} has rules or exempt layers of its own, and a rule "
                "takes numerics alone"
            )
        if "." in self.label or not self.label.isprintable():
            raise OptionError(f"layers: a rule's name is text without dots, not {self.label!r}")

    @property
    def follows(self) -> bool:
        """Whether the numerics build on those of the recipe that has the rule, and change with them."""
        return self.origin is not None and self.origin.base is None

    @property
    def name(self) -> str:
        """The label, or what the rule speaks of."""
        return self.label or str(self.which)


RECIPE_OPTIONS = tuple(f.name for f in fields(Recipe) if f.name not in GEMMS and not f.metadata.get("label"))
"""Options of the recipe as a whole, written without a point."""


@lru_cache(maxsize=4096)
def _under(recipe: Recipe, rule: Rule | None) -> Recipe | None:
    if rule is None:
        return replace(recipe, layers=(), exempt=Exempt())
    own = rule.recipe
    if own is None or own.schedule is not None or recipe.schedule is None or not (own.quantizes or own.attention):
        return own
    return replace(own, schedule=recipe.schedule)


def quantizes(gemm: Gemm) -> bool:
    """Whether one of a GEMM's operands has a block quantizer."""
    return isinstance(gemm.lhs, BlockQuantizer) or isinstance(gemm.rhs, BlockQuantizer)


__all__ = ["RECIPE_OPTIONS", "Origin", "Recipe", "Rule", "quantizes"]
