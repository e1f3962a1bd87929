"""The JSON Schema: what an editor would complete, and what it would mark."""

import json
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from dse.numerics.recipe import is_option_path
from dse.numerics.registry import FAMILIES
from dse.recipes import RECIPES
from dse.sweep import schema_json
from dse.sweep.json_schema_values import option_paths
from dse.sweep.read.schema import SweepFile, keys_of
from tests.sweep.test_errors import MISTAKES

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = schema_json()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_it_is_plain_json_and_always_the_same() -> None:
    assert json.dumps(schema_json()) == json.dumps(schema_json())


def test_every_key_and_every_registry_is_in_it() -> None:
    schema = schema_json()
    assert set(schema["properties"]) >= set(keys_of(SweepFile))
    text = json.dumps(schema)
    for name in [*RECIPES, *(name for family in FAMILIES.values() for name in family)]:
        assert f'"{name}"' in text
    grid = schema["definitions"]["grid"]["anyOf"][0]["properties"]
    assert {"*.block", "wgrad.rhs.rounding.bits", "G", "training.lr", "task.size", "schedule.share"} <= set(grid)


def test_every_listed_path_is_one_that_the_loader_knows() -> None:
    explicit, patterns = option_paths(numerics=True)
    assert len(explicit) > 800
    for path in explicit:
        assert is_option_path(path)
        assert not any(re.search(pattern, path) for pattern in patterns)


def test_most_mistakes_are_marked(validator: Any) -> None:
    """An editor marks structure and words; what depends on several values only the loader can tell."""
    marked, told = 0, []
    for name, (text, _) in MISTAKES.items():
        try:
            data = YAML(typ="safe", pure=True).load(text)
            data = json.loads(json.dumps(data))
        except Exception:  # noqa: BLE001 - an editor marks these itself
            continue
        if validator.is_valid(data):
            told.append(name)
        else:
            marked += 1
    assert marked > 50, told
    words = {"unknown key", "axis type", "grid option", "grid value", "optimizer", "option value", "unknown data"}
    assert words.isdisjoint(told)


def test_tasks_by_import_path(validator: Any) -> None:
    for task, valid in (
        ("./mine.py:Sums", True),
        ({"./mine.py:Sums": {"width": 3, "grid": {"training.lr": [1]}}}, True),
        ({"./mine.py:Sums": {"width": 3, "grid": {"training.lrr": [1]}}}, False),
        ({"mine": {"width": 3}}, False),
    ):
        assert validator.is_valid({"tasks": [task], "recipes": ["bf16"]}) == valid


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("grid: {G.rounding: [nearest_evn]}", True),
        ("grid: {G.rounding: [{stochastic: {bits: 4}}]}", False),
        ("grid: {G.rounding: [{stochastic: {bit: 4}}]}", True),
        ("grid: {G.round: [up]}", True),
        ("grid: {fprop.lhs.blok: [8]}", True),
        ("grid: {forward.lhs.block: [8]}", False),
        ("grid: {wgrad.rotation.size: {log_int: [8, 64]}}", False),
        ("grid: {wgrad.rotation.size: {log_in: [8, 64]}}", True),
        ("grid: {task.size: [huge]}", True),
        ("zip: [{training.lr: [1], '*.block': [4]}]", False),
        ("zip: [{training.lr: {log: [1, 2]}}]", True),
        ("when: [{if: {recipe: {not: bf16}}, grid: {'*.block': [4]}}]", False),
        ("when: [{when: {recipe: bf16}, grid: {'*.block': [4]}}]", True),
        ("baseline: [bf16, {tuned: {recipe: bf16, training.lr: 1}}]", False),
        ("baseline: {recipe: bf16, training.rate: 1}", True),
        ("search: {method: tpe, trials: 4, batch: 2}", False),
        ("search: {method: random, trials: 4, batch: 2}", True),
        ("search: {method: tpe}", True),
    ],
)
def test_the_language(validator: Any, text: str, bad: bool) -> None:
    data = YAML(typ="safe", pure=True).load("{tasks: [lm], recipes: [mxfp4]}") | YAML(typ="safe", pure=True).load(text)
    assert validator.is_valid(data) != bad


@pytest.mark.parametrize(
    ("axis", "good"),
    [
        ({"attention": ["none", "same", {"scores": "same"}]}, True),
        ({"attention.scores": ["same", "none"]}, True),
        ({"attention.scores.G.rounding": ["stochastic"]}, True),
        ({"attention.*.block": [16, 32]}, True),
        ({"attention.outputs.fprop": ["bf16"]}, True),
        ({"attention.smooth_keys": [True, False]}, True),
        ({"attention": ["sane", "none"]}, False),
        ({"attention.scors": ["same", "none"]}, False),
        ({"attention.scores.H.rounding": ["stochastic"]}, False),
    ],
    ids=str,
)
def test_attention(validator: Any, axis: dict[str, Any], good: bool) -> None:
    assert validator.is_valid({"tasks": ["lm"], "recipes": ["mxfp4"], "grid": axis}) == good
