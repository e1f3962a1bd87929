"""Nothing that results on disk depend on has moved: identities, recipes as data, random streams, costs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_make", Path(__file__).with_name("make.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _maker()


@pytest.mark.parametrize("name", sorted(make.GOLDENS))
def test_nothing_has_moved(name: str) -> None:
    was = json.loads(make.path_of(name).read_text(encoding="utf-8"))
    now = json.loads(json.dumps(make.GOLDENS[name]()))
    missing = sorted(set(was) - set(now))
    assert not missing, f"gone: {missing}"
    changed = [entry for entry in was if now[entry] != was[entry]]
    assert not changed, f"other than in {make.path_of(name).name}: {changed}"


def test_every_file_has_its_maker() -> None:
    assert {path.stem for path in make.FOLDER.glob("*.json")} == set(make.GOLDENS)
