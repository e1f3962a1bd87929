"""Shapes, the table, and what importing the cost model must not import."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from dse.cost import HARDWARE, LLAMA3_8B, MODELS, LayerShape, breakdown, parse_shape, render
from dse.errors import UserError
from dse.recipes import RECIPES


def printed(name: str, layer: LayerShape, width: int = 110) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(render(breakdown(RECIPES[name], layer), layer))
    return file.getvalue()


def test_models_have_their_published_parameters() -> None:
    """Weights of the linears alone: 6.98e9 of Llama 3's 8.03e9, 68.5e9 of its 70.6e9 (the rest: embedding and head)."""
    weights = {name: sum(x.inputs * x.outputs * x.count for x in layers) for name, layers in MODELS.items()}
    assert weights == {"llama3-8b": 6_979_321_856, "llama3-70b": 68_451_041_280}
    assert {layer.tokens for layer in LLAMA3_8B} == {8192}
    assert sum(layer.count for layer in LLAMA3_8B) == 7 * 32


@pytest.mark.parametrize("text", ["8192,4096,14336", "8192x4096x14336", " 8192, 4096, 14336 "])
def test_a_shape_from_text(text: str) -> None:
    layer = parse_shape(text)
    assert (layer.size("X"), layer.size("W"), layer.size("G")) == (8192 * 4096, 4096 * 14336, 8192 * 14336)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c", "0,1,1", "-4,4,4", "1.5,2,3"])
def test_a_shape_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="three positive integers M,K,N"):
        parse_shape(text)


def test_profiles_say_where_their_rates_come_from() -> None:
    for hardware in HARDWARE.values():
        assert hardware.source
        assert hardware.fp4 > hardware.fp8 > hardware.bf16 > hardware.tf32 > hardware.vector
        rates = [hardware.rate(bits) for bits in (4, 6, 8, 16, 32)]
        assert rates == [hardware.fp4, hardware.fp8, hardware.fp8, hardware.bf16, hardware.tf32]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_a_table_with_its_sum(name: str) -> None:
    layer = LLAMA3_8B[2]
    rows = breakdown(RECIPES[name], layer)
    text = printed(name, layer)
    assert str(layer) in " ".join(text.split())
    assert f"{sum(row.percent for row in rows):.2f}" in text
    assert all(row.why for row in rows)
    assert all(word in text for row in rows for word in row.technique.split())


def test_the_table_names_gemm_operand_technique_and_formula() -> None:
    text = printed("nvfp4", parse_shape("8192,4096,14336"))
    for expected in (
        "fprop  X  e2m1 in blocks    2 MK + 2 MK/16",
        "codes of fprop.rhs",
        "32 MN (matrix unit)",
        "element rounding  6 MN",
        "1 MN/16 + 0.5 MK",
        "940 Mb",  # 8 bits for each element of G
        "235 MB",  # one more pass over G in BF16
    ):
        assert expected in text
    assert "nothing is quantized" in printed("fp32", LLAMA3_8B[0])


def test_rich_is_imported_only_for_the_table() -> None:
    code = "import sys, dse.cost; assert not {'rich', 'pandas', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
