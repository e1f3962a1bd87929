"""The contract of everything registered, on paper: plain data and back, identity, stated cost, source and shapes.

Members find their way in here by being registered (see members.py), so a technique is held to it from its first day.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

import pytest
from ruamel.yaml import YAML

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.ops import Ops
from dse.numerics.quantizer import Quantizer
from dse.numerics.recipe import Recipe, override
from dse.numerics.registry import FAMILIES, build, from_data, to_data
from dse.numerics.techniques.post import PostTraining
from dse.numerics.validate import reasons
from dse.pack.grouping import unlabeled
from dse.recipes import RECIPES
from tests.contract.members import MEMBER_IDS, MEMBERS, holder, variants

members = pytest.mark.parametrize(("base", "name", "cls"), MEMBERS, ids=MEMBER_IDS)


def through_yaml(data: Any) -> Any:
    """Plain data written as YAML and read again, then the same with JSON."""
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump({"value": data}, text)
    data = YAML(typ="safe", pure=True).load(text.getvalue())["value"]
    return json.loads(json.dumps(data, sort_keys=True, allow_nan=False))


@members
def test_from_plain_data_and_back(base: type, name: str, cls: Any) -> None:
    """Default and every variant; the default is its bare name, a variant states what differs and nothing else.

    But for the version of numbers that have changed, which both state.
    """
    owner, field_name = holder(base)
    version = getattr(cls, "arithmetic", 1)
    always = {"arithmetic": version} if version > 1 else {}
    for obj in variants(cls):
        data = to_data(obj)
        assert data == ({name: always} if always else name) if obj == cls() else list(data) == [name]
        assert obj == cls() or len(data[name]) == 1 + len(always)
        assert obj == cls() or always.items() <= data[name].items()
        assert from_data(owner, field_name, through_yaml(data), "here") == obj
        assert to_data(from_data(owner, field_name, through_yaml(data), "here")) == data
        assert from_data(owner, field_name, {name: {}}, "here") == cls()


@members
def test_members_are_frozen_values(base: type, name: str, cls: Any) -> None:
    for obj in variants(cls):
        copy = pickle.loads(pickle.dumps(obj))
        assert copy == obj
        assert hash(copy) == hash(obj)
        for f in fields(obj):
            with pytest.raises(FrozenInstanceError):
                setattr(obj, f.name, None)
    assert len(set(variants(cls))) == len(variants(cls))
    assert len({json.dumps(to_data(v), sort_keys=True) for v in variants(cls)}) == len(variants(cls))


@members
def test_members_refuse_what_they_do_not_know(base: type, name: str, cls: Any) -> None:
    owner, field_name = holder(base)
    with pytest.raises(OptionError, match=re.escape(f"here.no_such: {cls.__name__}") + "|has no option 'no_such'"):
        from_data(owner, field_name, {name: {"no_such": 1}}, "here")
    with pytest.raises(OptionError, match="unknown"):
        from_data(owner, field_name, name + "_", "here")


@members
def test_the_docstring_states_source_cost_and_errors(base: type, name: str, cls: Any) -> None:
    text = " ".join((cls.__doc__ or "").split())
    if cls is not BlockQuantizer:  # the composition: its parts state theirs
        assert re.search(r"Costs?:", text), "cost"
    if base is not Quantizer:
        assert re.search(r"Sources?: [^.]*(arXiv \d{4}\.\d{4,5}|IEEE|OCP|Bengio|torchao|Knuth)", text), "source"
    if "__post_init__" in vars(cls):
        assert "Raises OptionError" in text, "errors"
    text = " ".join(c.__doc__ or "" for c in cls.__mro__ if is_dataclass(c))  # where fields are declared
    assert {f.name for f in fields(cls) if f.type == "str"} == set() or re.search(r"'\w+'", text), "words"


def test_shapes_are_stated_where_tensors_pass() -> None:
    """On the family's abstract method, once for all members."""
    for base in FAMILIES:
        for name in getattr(base, "__abstractmethods__", ()):
            method = getattr(base, name)
            if any(kind in str(method.__annotations__.get("return", "")) for kind in ("Tensor", "Quantized", "Parts")):
                text = f"{method.__doc__} {base.__doc__}"
                assert re.search(r"shape|\[\.\.\.|\[N|\[M|size 1", text), f"{base.__name__}.{name}"


@members
def test_operation_counts_are_stated_and_explained(base: type, name: str, cls: Any) -> None:
    for obj in variants(cls):
        stated = obj.ops()
        counts = [ops for _, ops in stated] if base is Quantizer else [stated]
        for other in ("slope_ops", "vjp_ops"):
            if hasattr(obj, other):
                more = getattr(obj, other)()
                counts += [ops for _, ops in more] if isinstance(more, tuple) else [more]
        for ops in counts:
            assert isinstance(ops, Ops)
            assert ops.why
            assert all(getattr(ops, f.name) >= 0 for f in fields(ops) if f.name != "why")


@pytest.mark.parametrize("fmt", [*ELEMENTS.values(), *SCALES.values()], ids=lambda f: f.name)
def test_formats(fmt: Format) -> None:
    pool = SCALES if SCALES.get(fmt.name) == fmt else ELEMENTS
    option = "scale" if pool is SCALES else "element"
    assert pool[fmt.name] is fmt
    assert fmt.source
    assert from_data(BlockQuantizer, option, to_data(fmt), "here") is fmt
    assert pickle.loads(pickle.dumps(fmt)) == fmt
    assert hash(pickle.loads(pickle.dumps(fmt))) == hash(fmt)
    assert fmt.signed == (pool is ELEMENTS)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    """Named, explained, with a meaning, and equal to what their plain data give."""
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.summary
    assert recipe.source
    assert list(reasons(recipe)) == []
    again = build(Recipe, through_yaml(to_data(recipe)), "recipe")
    assert unlabeled(again) == unlabeled(recipe)
    assert to_data(again) == to_data(recipe)
    assert hash(pickle.loads(pickle.dumps(recipe))) == hash(recipe)


def test_identities_of_long_standing() -> None:
    """Stored results are found by these: a change of a default or of a name must not go unnoticed."""
    q = {"scale": "ue4m3", "block": 16, "tensor_scale": "current"}
    assert to_data(RECIPES["nvfp4"].dgrad.lhs) == {"block": {**q, "rounding": "stochastic"}}
    assert to_data(RECIPES["nvfp4"].dgrad.rhs) == {"block": {**q, "tile": 16}}
    mxfp4 = {"block": {"scale_rounding": "toward_zero", "constant": 4.0}}
    assert to_data(RECIPES["mxfp4"]) == {g: {"lhs": mxfp4, "rhs": mxfp4} for g in ("fprop", "dgrad", "wgrad")}


def test_a_path_reaches_every_family() -> None:
    """``override`` takes every registered name wherever its family is an option."""
    recipe = override(RECIPES["nvfp4_plain"], "post", "rtn")
    for base, name, _ in MEMBERS:
        owner, option = holder(base)
        prefixes = {BlockQuantizer: "forward.", Gemm: "wgrad.", Recipe: "", PostTraining: "post."}
        path = f"{prefixes[owner]}{option}"
        changed = override(recipe, path, name)
        assert from_data(owner, option, name, path) in (getattr(changed, option, None), *options(changed, option))


def options(recipe: Recipe, option: str) -> list[Any]:
    """The values of an option at wgrad, at the forward points and of the post-training method."""
    holders = [recipe.wgrad, recipe.fprop.lhs, recipe.fprop.rhs, recipe.post]
    return [getattr(h, option) for h in holders if hasattr(h, option)]
