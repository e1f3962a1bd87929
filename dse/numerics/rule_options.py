"""Options of rules: ``layers``, ``layers.NAME`` and ``layers.NAME.OPTION``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from dse.errors import OptionError, nearest
from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.layer_choice import LAYER_KINDS, Which
from dse.numerics.paths import SELECTORS, precedence
from dse.numerics.point_options import SAME
from dse.numerics.recipe_fields import RECIPE_OPTIONS, Origin, Recipe, Rule, quantizes
from dse.numerics.registry import build

Override = Callable[[Recipe, str, Any], Recipe]
"""``dse.numerics.recipe.override``."""

CONDITIONS: dict[str, str] = {"kind": "kinds", "name": "names", **{f.name: f.name for f in fields(Which)}}
"""What says which layers, in the mapping of a rule, and the field that it stands for."""
RULE_KEYS = ("recipe", "optional", "label")
"""What else stands there, beside paths of options."""

_BROADER = dict.fromkeys(("q", "k", "v", "qkv", "o"), "attention") | dict.fromkeys(("up", "gate", "down"), "ffn")
_POINT_OPTIONS = {f.name for cls in (BlockQuantizer, Gemm) for f in fields(cls)} - {"lhs", "rhs"}


def set_rules(recipe: Recipe, parts: list[str], data: Any, path: str, override: Override) -> Recipe:
    """The recipe with rules set: all of them (``parts`` empty), one, or an option of one.

    Raises OptionError for unknown rules, kinds and options.
    """
    if not parts:
        rules = _listed(replace(recipe, layers=()), data, path, override)
        return replace(recipe, layers=tuple(rules))
    name, option = parts[0], ".".join(parts[1:])
    rule = next((own for own in recipe.layers if own.name == name), None)
    if rule is None and name not in LAYER_KINDS:
        known = [*(own.name for own in recipe.layers), *LAYER_KINDS]
        raise OptionError(f"{path}: no rule and no kind of layers {name!r}{nearest(name, known)}")
    old = rule or Rule(Which(kinds=(name,)), recipe=_plain(recipe), origin=Origin())
    new = _rule(recipe, old, {option: data} if option else data, path.removesuffix(f".{option}"), override)
    return replace(recipe, layers=_with(recipe.layers, new))


def derived(recipe: Recipe, override: Override) -> Recipe:
    """The recipe with every rule that builds on it made anew, once its own options have changed."""
    if not any(rule.follows for rule in recipe.layers):
        return recipe
    rules = [
        replace(rule, recipe=_numerics(recipe, rule.origin, f"layers.{rule.name}", override))
        if rule.origin is not None and rule.follows
        else rule
        for rule in recipe.layers
    ]
    return replace(recipe, layers=tuple(rules))


def without_idle(recipe: Recipe, asked: Iterable[str]) -> Recipe:
    """The recipe without what its unquantized GEMMs have left over, where no setting ``asked`` for it.

    With both operands in BF16 a rotation cancels and forward copies are the originals: ``{base: nvfp4, wgrad: bf16}``
    is the GEMM without them.
    """
    loose = [name for name in ("fprop", "dgrad", "wgrad") if not quantizes(getattr(recipe, name))]
    if "rotation" not in asked:
        changed = {n: replace(gemm, rotation=None) for n in loose if (gemm := getattr(recipe, n)).rotation is not None}
        recipe = replace(recipe, **changed) if changed else recipe
    if "backward_source" not in asked and recipe.backward_source == "forward" and "fprop" in loose:
        recipe = replace(recipe, backward_source="original")
    return recipe


def _listed(recipe: Recipe, data: Any, path: str, override: Override) -> Iterable[Rule]:
    """The rules that a list of mappings describes, or a mapping of kinds and name patterns to numerics."""
    if data in (None, "none", "off", []):
        return
    if isinstance(data, Mapping):
        for key, value in data.items():
            which = Which(kinds=(key,)) if key in LAYER_KINDS else Which(names=(_pattern(key, path),))
            yield _rule(recipe, Rule(which, origin=Origin()), value, f"{path}.{key}", override)
        return
    if not isinstance(data, list | tuple):
        raise OptionError(f"{path}: expected a list of rules, or {{kind or pattern: numerics}}, found {data!r}")
    for number, item in enumerate(data, 1):
        if isinstance(item, Rule):
            yield item
            continue
        if not isinstance(item, Mapping):
            raise OptionError(f"{path}: rule {number}: expected a mapping such as {{kind: ffn, recipe: mxfp8}}")
        conditions = {key: value for key, value in item.items() if key in CONDITIONS}
        rest = {key: value for key, value in item.items() if key not in CONDITIONS}
        where = f"{path}: rule {number}"
        if not rest.keys() - {"label", "optional"}:
            raise OptionError(
                f"{where}: says no numerics; write recipe: bf16, or recipe: none to leave them as they are"
            )
        yield _rule(recipe, Rule(_which(conditions, where), origin=Origin()), rest, where, override)


def _which(conditions: Mapping[str, Any], where: str) -> Which:
    listed = {key: _several(key, _share(key, value)) for key, value in conditions.items()}
    made: Which = build(Which, {CONDITIONS[key]: value for key, value in listed.items()}, where)
    return made


def _several(key: str, value: Any) -> Any:
    """One kind or pattern as a list of one; others as they are."""
    return [value] if CONDITIONS[key] in ("kinds", "names") and isinstance(value, str) else value


def _share(key: str, value: Any) -> Any:
    """'15%' as .15."""
    if key.endswith("_share") and isinstance(value, str) and value.strip().endswith("%"):
        return f"{float(value.strip()[:-1]) / 100:.6g}" if value.strip()[:-1].replace(".", "").isdigit() else value
    return value


def _pattern(key: Any, path: str) -> str:
    """A key that is a pattern of names. Raises OptionError for a word that is neither that nor a kind."""
    if not isinstance(key, str) or not any(sign in key for sign in "*?[."):
        raise OptionError(f"{path}: no kind of layers {key!r}{nearest(key, LAYER_KINDS)}")
    return key


def _rule(recipe: Recipe, rule: Rule, data: Any, path: str, override: Override) -> Rule:
    """The rule with other numerics, as ``data`` says: a recipe, 'none', 'same', or a mapping of options."""
    if not isinstance(data, Mapping):
        data = {"recipe": data}
    origin = rule.origin or Origin(rule.recipe)
    body = dict(data)
    label, optional = body.pop("label", rule.label), body.pop("optional", rule.optional)
    if not isinstance(label, str) or not isinstance(optional, bool):
        raise OptionError(f"{path}: label is text and optional is true or false, not {label!r} and {optional!r}")
    rule = replace(rule, label=label, optional=optional)
    if "recipe" in body:
        base = body.pop("recipe")
        if base in (None, "none", "off"):
            if body:
                raise OptionError(f"{path}: layers that stay as they are have no {next(iter(body))!r}")
            return replace(rule, recipe=None, origin=None)
        if base != SAME and not isinstance(base, Recipe):
            raise OptionError(
                f"{path}: expected a recipe, 'same', or 'none' to leave layers as they are; found {base!r}"
            )
        origin = Origin(None if base == SAME else base)
    elif rule.recipe is None and rule.origin is None and body:
        origin = Origin()
    changes = {**dict(origin.changes), **{_full(key, path): value for key, value in body.items()}}
    origin = Origin(origin.base, tuple(changes.items()))
    return replace(rule, recipe=_numerics(recipe, origin, path, override), origin=origin)


def _full(option: Any, path: str) -> str:
    """The path of an option: ``element`` at all points is ``*.element``."""
    head = str(option).split(".")[0]
    if head in ("exempt", "layers"):
        raise OptionError(f"{path}.{option}: a rule takes numerics alone")
    if head in _POINT_OPTIONS:
        return f"*.{option}"
    if head not in SELECTORS and head not in RECIPE_OPTIONS:
        known = [*SELECTORS, *RECIPE_OPTIONS, *_POINT_OPTIONS, *CONDITIONS, *RULE_KEYS]
        raise OptionError(f"{path}: no option {option!r}{nearest(option, known)}")
    return str(option)


def _numerics(recipe: Recipe, origin: Origin, path: str, override: Override) -> Recipe:
    """The numerics that an origin describes, in a recipe; options are set from the general to the specific."""
    base = origin.base or _plain(recipe)
    made, errors = base, dict[str, OptionError]()
    waiting = sorted(origin.changes, key=lambda change: precedence(change[0]))
    while waiting:
        left = []
        for option, value in waiting:
            try:
                made = whole_or_part(made, option, value, override)
            except OptionError as error:  # may fit once another option is set
                left.append((option, value))
                errors[option] = error
        if len(left) == len(waiting):
            raise OptionError(f"{path}.{errors[left[0][0]]}")
        waiting = left
    made = without_idle(made, {part for option, _ in origin.changes for part in option.split(".")})
    text = " ".join(f"{option}={value}" for option, value in origin.changes)
    return replace(made, name=" ".join(filter(None, (base.name, text))), summary="", source="")


def whole_or_part(recipe: Recipe, path: str, data: Any, override: Override) -> Recipe:
    """The recipe with an option set; a selector alone stands for the quantizers at its points: ``forward: bf16``.

    'none' and 'off' for a quantizer mean BF16 operands, the baseline's.
    """
    if path not in SELECTORS:
        return override(recipe, path, data)
    for point in SELECTORS[path]:
        try:
            recipe = override(recipe, point, "bf16" if data in (None, "none", "off") else data)
        except OptionError as error:
            raise OptionError(f"{path}{str(error).removeprefix(point)}") from None
    return recipe


def _with(rules: tuple[Rule, ...], new: Rule) -> tuple[Rule, ...]:
    """The rules with one in the place of that of its name, or after all others; before a rule about a broader kind."""
    names = [rule.name for rule in rules]
    if new.name in names:
        return tuple(new if rule.name == new.name else rule for rule in rules)
    broad = [Which(kinds=(_BROADER[kind],)) for kind in new.which.kinds if kind in _BROADER]
    at = next((i for i, rule in enumerate(rules) if rule.which in broad), len(rules))
    return (*rules[:at], new, *rules[at:])


def _plain(recipe: Recipe) -> Recipe:
    """The recipe's own numerics."""
    plain = recipe.under(None)
    assert plain is not None
    return plain


__all__ = ["CONDITIONS", "RULE_KEYS", "derived", "set_rules", "whole_or_part", "without_idle"]
