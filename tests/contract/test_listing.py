"""``dse recipes --options`` lists every option of every axis, from the registries."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dse.commands.gallery import recipes
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import RECIPE_OPTIONS, SELECTORS
from tests.contract.members import MEMBERS


def test_every_member_and_every_parameter_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    recipes(None, options=True)
    text = capsys.readouterr().out
    words = set(text.replace(",", " ").replace(":", " ").split())
    assert set(SELECTORS) | set(ELEMENTS) | set(SCALES) | set(RECIPE_OPTIONS) <= words
    for owner in (BlockQuantizer, Gemm):
        assert {f.name for f in fields(owner)} <= words
    for base, name, cls in MEMBERS:
        headings = [line.replace(" ", "").rstrip(":") for line in text.splitlines()]
        lines = text.splitlines()[headings.index(base.__name__.lower()) :]
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  {name} "))
        assert len(lines[start].split()) > 2, "a sentence about it"
        listed = [line.split(":")[0].strip() for line in lines[start + 1 : start + 1 + len(fields(cls))]]
        assert listed == [f.name for f in fields(cls)]
