"""What rules about layers look at in a model: kind, position and size of its layers, and rules that meet none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from dse.errors import UserError, nearest
from dse.nn.kinds import EXPERTS, HEADS, class_name, gemms, is_quantized, kind_of, matrices
from dse.numerics.layer_choice import LAYER_KINDS, LayerPlace
from dse.numerics.recipe import Recipe, Rule

_ATTENTION = re.compile(r"attention|attn")
_FFN = re.compile(r"mlp|ffn|feed_?forward|expert|intermediate|dense(relu|gated|act)|(^|\.)ff(\.|$)")
_MAMBA = re.compile(r"mamba|ssm|state_?space")
_EXPERT = re.compile(r"experts?(_|\.|$)")

_ROLES: dict[str, tuple[str, ...]] = {
    "q": ("q", "query", "wq", "to_q", "q_proj", "q_a_proj", "q_b_proj"),
    "k": ("k", "key", "wk", "to_k", "k_proj"),
    "v": ("v", "value", "wv", "to_v", "v_proj"),
    "qkv": ("qkv", "qkv_proj", "wqkv", "to_qkv", "c_attn", "query_key_value", "in_proj", "kv", "kv_proj", "to_kv",
            "kv_a_proj_with_mqa", "kv_b_proj"),
    "o": ("o", "o_proj", "wo", "to_out", "out_proj", "c_proj", "out", "proj", "dense"),
    "up": ("up", "up_proj", "fc1", "fc_in", "linear1", "w3", "c_fc", "dense_h_to_4h", "wi", "gate_up_proj", "wi_1"),
    "gate": ("gate", "gate_proj", "w1", "gate_up_proj", "wi_0"),
    "down": ("down", "down_proj", "fc2", "fc_out", "linear2", "w2", "c_proj", "dense_4h_to_h", "wo"),
}  # fmt: skip
"""Names of linears in published models, by what they are; the last part of a layer's name."""
_HEAD = {"head", "lm_head", "classifier", "output_layer", "embed_out", "score", "heads"}
_IN_ATTENTION, _IN_FFN = ("q", "k", "v", "qkv", "o"), ("up", "gate", "down")
_CLEAR = {
    name for name in (n for names in _ROLES.values() for n in names) if sum(name in own for own in _ROLES.values()) == 1
} - {"out", "proj", "dense", "in_proj", "out_proj", "key", "value", "query", "gate", "w1", "w2", "w3"}
"""Names that say what a linear is wherever it stands."""


def kinds_of(name: str, module: nn.Module, owners: Sequence[nn.Module] = ()) -> tuple[str, ...]:
    """The kinds (``dse.numerics.layer_choice.LAYER_KINDS``) of a layer, by its class and name.

    ``owners``: the modules that hold it, the nearest last; their classes count as parts of the name.
    """
    path, _, leaf = name.lower().rpartition(".")
    where = ".".join([path, *(type(owner).__name__.lower() for owner in owners[-1:])])
    if "Conv" in class_name(module) and "Conv1D" not in class_name(module):
        return ("convolution",)
    if _is(module, HEADS):
        return ("linear", "attention")
    if _is(module, EXPERTS):
        return ("linear", "ffn", "expert")
    if leaf in ("router", "gate") and any(hasattr(owner, "experts") for owner in owners[-1:]):
        return ("linear", "router")
    found: list[str] = ["linear"]
    if leaf in _HEAD or name == "fc":
        return ("linear", "head")
    if _MAMBA.search(where):
        return ("linear", "mamba")
    roles = [role for role, names in _ROLES.items() if leaf in names]
    for kind, inside, own in (("attention", _ATTENTION, _IN_ATTENTION), ("ffn", _FFN, _IN_FFN)):
        here = [role for role in roles if role in own]
        if inside.search(where) or (here and leaf in _CLEAR):
            return (*found, kind, *here, *(["expert"] if kind == "ffn" and _EXPERT.search(where) else []))
    return tuple(found)


def places(model: nn.Module, named: Mapping[str, nn.Module]) -> dict[str, LayerPlace]:
    """The layers of ``named`` as rules see them, numbered in their order, each module once.

    A block is what the names of consecutive layers have in common up to their first number (past what all names begin
    with): ``blocks.3``. Layers without a number belong to the block before them, those before all blocks to the first;
    in a model without two such numbers every layer is a block.
    """
    numbers = {module: i for i, module in enumerate(dict.fromkeys(named.values()))}
    depth = _blocks(list(named))
    blocks = max(depth.values(), default=0) + 1
    return {
        name: LayerPlace(
            name,
            kinds_of(name, module, list(_owners(model, name))),
            numbers[module],
            len(numbers),
            depth[name],
            blocks,
            sum(p.numel() for _, p in matrices(module, inside=True)),
        )
        for name, module in named.items()
    }


def core_places(layers: Mapping[str, LayerPlace], cores: Iterable[str]) -> dict[str, LayerPlace]:
    """Every attention's products as rules see them: in the block of the layers that have most of its name in common."""
    found = {}
    for name in cores:
        near = max(layers.values(), key=lambda place: _common(place.name, name), default=LayerPlace(""))
        found[name] = LayerPlace(name, ("core",), block=near.block, blocks=near.blocks)
    return found


def refuse_idle(model: nn.Module, recipe: Recipe, seen: Iterable[LayerPlace], used: Iterable[Rule]) -> None:
    """Raises UserError for a rule that decides about no layer of the model, unless it is optional.

    ``seen``: the layers and attentions that rules could decide about; ``used``: the rules that do.
    """
    known, kept = list(seen), {id(rule) for rule in used}
    for rule in recipe.layers:
        if rule.optional or id(rule) in kept:
            continue
        own = f"recipe {recipe.name!r}: layers.{rule.name} matches no layer of {type(model).__name__}"
        if any(rule.which.covers(place) for place in known):
            raise UserError(f"{own} that an earlier rule, or what is exempt, has left")
        names = [place.name for place in known]
        here = [kind for kind in LAYER_KINDS if any(kind in place.kinds for place in known)]
        hints = [nearest(pattern, names) for pattern in rule.which.names]
        hints += [f"; it has {', '.join(here)}"] if rule.which.kinds else []
        raise UserError(f"{own}{hints[0] if hints else ''}; optional: true allows it")


def _blocks(names: Sequence[str]) -> dict[str, int]:
    """The number of the block of each layer."""
    split = [name.split(".") for name in names]
    shared = 0
    while len(split) > 1 and all(len(parts) > shared + 1 for parts in split):
        if len({parts[shared] for parts in split}) > 1:
            break
        shared += 1
    keys = [_key(parts[shared:]) for parts in split]
    if len(set(keys) - {""}) < 2:
        return {name: i for i, name in enumerate(names)}
    order: dict[str, int] = {}
    found, now = {}, 0
    for name, key in zip(names, keys, strict=True):
        now = order.setdefault(key, len(order)) if key else now
        found[name] = now
    return found


def _key(parts: Sequence[str]) -> str:
    number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return "" if number is None else ".".join(parts[: number + 1])


def _common(a: str, b: str) -> int:
    """How many parts two names begin with in common."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(a.count("."), b.count(".")) + 1)


def _owners(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """The modules that hold a layer, the nearest last."""
    parts = name.split(".")[:-1]
    for i in range(len(parts) + 1):
        yield model.get_submodule(".".join(parts[:i]))


def _is(module: Any, kind: object) -> bool:
    return not is_quantized(module) and kind_of(module) is kind and bool(gemms(module))


__all__ = ["core_places", "kinds_of", "places", "refuse_idle"]
