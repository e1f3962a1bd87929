"""Options at a recipe's quantization points, and of the two products of its attention: how a path sets them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from dse.errors import OptionError, nearest
from dse.numerics.attention import PRODUCTS, Attention, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.paths import SELECTORS, has, reaches, set_option, split
from dse.numerics.registry import from_data

SAME = "same"
"""What ``attention``, its products and rules may say: the numerics of the recipe's linears, as they stand."""

_Owner = TypeVar("_Owner", bound=Any)


def at_points(owner: _Owner, option_path: str, data: Any, path: str, others: Iterable[str] = ()) -> _Owner:
    """``owner``, a recipe or a product of its attention, with an option set at some of its points.

    ``path``: how messages call the option; ``others``: what else its first part might have meant.
    """
    selector, option = split(option_path, path, others)
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


def attention_options(recipe: Any, parts: list[str], data: Any, path: str) -> Attention | None:
    """What a recipe says about attention once ``path`` (its ``parts`` after 'attention') is set to ``data``."""
    if not parts:
        if not isinstance(data, Mapping) and data != SAME:
            return from_data(type(recipe), "attention", data, path)  # type: ignore[no-any-return]
        each = dict.fromkeys(PRODUCTS, SAME) if data == SAME else data
        new = replace(recipe, attention=Attention())
        for name, value in each.items():
            new = replace(new, attention=attention_options(new, str(name).split("."), value, f"{path}.{name}"))
        made_whole: Attention | None = new.attention
        return made_whole
    own, names, inner = recipe.attention or Attention(), list(PRODUCTS), parts
    if parts[0] in PRODUCTS:
        names, inner = [parts[0]], parts[1:]
        if not inner:
            return replace(own, **{parts[0]: _product(recipe, data, path)})
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
    return replace(own, **made)


def _product(recipe: Any, data: Any, path: str) -> Product:
    if data == SAME:
        return Product(recipe.fprop, recipe.dgrad, recipe.wgrad, recipe.backward_source)
    return Product() if data in (None, "none", "off") else from_data(Attention, "scores", data, path)


def _inside(product: Product, parts: list[str], data: Any, path: str) -> Product:
    """A product with one option set; a selector alone stands for the quantizers at its points."""
    inner = ".".join(parts)
    if parts[0] not in SELECTORS:
        return set_option(product, parts, data, path)  # type: ignore[no-any-return]
    for point in SELECTORS.get(inner, (inner,)):
        product = at_points(product, point, data, path)
    return product


def _no_meaning(owner: Any, selector: str, option: str, path: str) -> str:
    known = [f.name for f in fields(BlockQuantizer)] + [f.name for f in fields(Gemm)]
    if option not in known:
        return f"{path}: no option {option!r}{nearest(option, known)}"
    who = "this product of attention" if isinstance(owner, Product) else f"recipe {owner.name!r}"
    return f"{path}: {who} has no block quantizer at {selector}, so {option!r} has no meaning there"


__all__ = ["SAME", "at_points", "attention_options"]
