"""A recipe: the numerics of a linear layer's three GEMMs, and how options at its six quantization points are set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from dse.errors import OptionError, nearest
from dse.numerics.attention import PRODUCTS, Attention, Product
from dse.numerics.gemm import Gemm
from dse.numerics.paths import SELECTORS, has, reaches, set_option, split
from dse.numerics.points import GEMMS, POINTS
from dse.numerics.quantizer import Quantizer
from dse.numerics.registry import from_data
from dse.numerics.techniques.schedules import Schedule
from dse.numerics.techniques.weights import WeightRule


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
        return next((p for p in self.names if fnmatchcase(name.lower(), p.lower())), None)


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
    - ``attention``: numerics of the two products of softmax attention; none: high precision, fused where possible.

    Raises OptionError for an unknown source.
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

    def __post_init__(self) -> None:
        if self.backward_source not in ("original", "forward"):
            raise OptionError(f"backward_source must be 'original' or 'forward', not {self.backward_source!r}")

    def quantizer(self, point: str) -> Quantizer:
        """The quantizer at a point such as ``wgrad.rhs``."""
        gemm, side = point.split(".")
        return getattr(getattr(self, gemm), side)  # type: ignore[no-any-return]


_Owner = TypeVar("_Owner", Recipe, Product)

RECIPE_OPTIONS = tuple(f.name for f in fields(Recipe) if f.name not in GEMMS and not f.metadata.get("label"))
"""Options of the recipe as a whole, written without a point."""


SAME = "same"
"""What ``attention`` and its products may say: the numerics of the recipe's linears, as they stand."""


def override(recipe: Recipe, path: str, data: Any) -> Recipe:
    """The recipe with one option set: ``wgrad.rhs.rounding``, ``G.rounding``, ``*.block``, ``wgrad.rotation``.

    ``data`` is what YAML holds: a registry name, a mapping ``{name: {parameter: value}}``, a number or none. The same
    options of attention's products stand behind ``attention.scores``, ``attention.outputs``, or ``attention`` for both:
    ``attention.scores.G.rounding``; ``attention: same`` copies the numerics of the linears.
    Raises OptionError (one line: the path, what is wrong, the nearest valid choice) when a part of the path does not
    exist, the value does not fit, or the option has no meaning at any of the points because the recipe does not
    quantize them.
    """
    head, *rest = path.split(".")
    if head == "attention":
        return replace(recipe, attention=_attention(recipe, rest, data, path))
    if head in RECIPE_OPTIONS:
        return set_option(recipe, [head, *rest], data, path)  # type: ignore[no-any-return]
    return _at_points(recipe, path, data, path)


def _at_points(owner: _Owner, option_path: str, data: Any, path: str) -> _Owner:
    """``owner``, the recipe or a product of its attention, with an option set at some of its points."""
    selector, option = split(option_path, path, RECIPE_OPTIONS)
    head, *rest = option
    if head in {f.name for f in fields(Gemm)}:
        gemms = dict.fromkeys(point.split(".")[0] for point in SELECTORS[selector])
        for gemm in gemms:
            owner = replace(owner, **{gemm: set_option(getattr(owner, gemm), option, data, path)})
        return owner
    touched = [p for p in SELECTORS[selector] if reaches(owner.quantizer(p), option)]
    touched = touched or [p for p in SELECTORS[selector] if has(owner.quantizer(p), head)]  # its error says what lacks
    if not touched:
        raise OptionError(_no_meaning(owner, selector, head, path))
    for point in touched:
        gemm, side = point.split(".")
        owner = replace(owner, **{gemm: set_option(getattr(owner, gemm), [side, head, *rest], data, path)})
    return owner


def _attention(recipe: Recipe, parts: list[str], data: Any, path: str) -> Attention | None:
    """What a recipe says about attention once ``path`` (its ``parts`` after 'attention') is set to ``data``."""
    if not parts:
        if not isinstance(data, Mapping) and data != SAME:
            return from_data(Recipe, "attention", data, path)  # type: ignore[no-any-return]
        each = dict.fromkeys(PRODUCTS, SAME) if data == SAME else data
        new = replace(recipe, attention=Attention())
        for name, value in each.items():
            new = replace(new, attention=_attention(new, str(name).split("."), value, f"{path}.{name}"))
        return new.attention
    own, names, inner = recipe.attention or Attention(), list(PRODUCTS), parts
    if parts[0] in PRODUCTS:
        names, inner = [parts[0]], parts[1:]
        if not inner:
            return replace(own, **{parts[0]: _product(recipe, data, path)})  # type: ignore[arg-type]
    elif parts[0] not in SELECTORS:
        return set_option(own, parts, data, path)  # type: ignore[no-any-return]
    made, errors = {}, []
    for name in names:
        try:
            made[name] = _inside(getattr(own, name), inner, data, path)
        except OptionError as error:
            errors.append(error)
    if not made:
        raise errors[0]
    return replace(own, **made)  # type: ignore[arg-type]


def _product(recipe: Recipe, data: Any, path: str) -> Product:
    if data == SAME:
        return Product(recipe.fprop, recipe.dgrad, recipe.wgrad, recipe.backward_source)
    return Product() if data in (None, "none", "off") else from_data(Attention, "scores", data, path)


def _inside(product: Product, parts: list[str], data: Any, path: str) -> Product:
    """A product with one option set; a selector alone stands for the quantizers at its points."""
    inner = ".".join(parts)
    if parts[0] not in SELECTORS:
        return set_option(product, parts, data, path)  # type: ignore[no-any-return]
    for point in SELECTORS.get(inner, (inner,)):
        product = _at_points(product, point, data, path)
    return product


def is_option_path(path: str) -> bool:
    """Whether a sweep axis names a numerics option (rather than a task's or the training's)."""
    return any(path == s or path.startswith(s + ".") for s in (*SELECTORS, *RECIPE_OPTIONS))


def _no_meaning(owner: Recipe | Product, selector: str, option: str, path: str) -> str:
    from dse.numerics.block import BlockQuantizer

    known = [f.name for f in fields(BlockQuantizer)] + [f.name for f in fields(Gemm)]
    if option not in known:
        return f"{path}: no option {option!r}{nearest(option, known)}"
    who = f"recipe {owner.name!r}" if isinstance(owner, Recipe) else "this product of attention"
    return f"{path}: {who} has no block quantizer at {selector}, so {option!r} has no meaning there"


__all__ = ["GEMMS", "POINTS", "RECIPE_OPTIONS", "SAME", "SELECTORS", "Exempt", "Recipe", "is_option_path", "override"]
