"""The gallery against the literature's recipe matrix: what is drawn, rotated and read again, and which formats."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import GEMMS, POINTS
from dse.numerics.techniques.rotations import Hadamard
from dse.recipes import RECIPES


class Layout(NamedTuple):
    """A row of the literature's recipe matrix."""

    stochastic: str  # points with stochastic elements: X W, G W, G X as six flags
    rotations: tuple[str, str, str] = ("", "", "")  # size and signs (f, n, r) of fprop, dgrad, wgrad
    copies: bool = False  # the backward GEMMs read the forward copies


MATRIX = {
    "mxfp8": Layout("......"),
    "mxfp4": Layout("......"),
    "mxfp4_away": Layout("......"),
    "nvfp4": Layout("..G.G.", ("", "", "16f")),
    "ue5m3": Layout("..G.G."),
    "wang_fp4": Layout("......"),
    "zhou_modulewise": Layout("......"),
    "tseng_mxfp4": Layout("..GWGX", ("", "64r", "64r")),
    "quartet": Layout("..GWGX", ("32n", "32r", "32r"), copies=True),
    "quartet2": Layout("..GWGX", ("", "128r", "128r"), copies=True),
    "quartet2_4over6": Layout("..GWGX", ("", "128r", "128r"), copies=True),
    "quartet2_h32": Layout("..GWGX", ("", "32r", "32r"), copies=True),
    "quartet2_sr": Layout("..GWGX", ("", "128r", "128r"), copies=True),
    "tetrajet": Layout("..GWGX", copies=True),
    "tetrajet_q_ema": Layout("..GWGX", copies=True),
    "tetrajet_q_ramping": Layout("..GWGX", copies=True),
    "tetrajet2": Layout("..GWGX", ("", "16r", "16r"), copies=True),
    "fp4_all_the_way": Layout("..G.GX"),
    "four_over_six": Layout("..G.G.", ("", "", "16f")),
    "nvfp4_4over6": Layout("..G.G."),
    "if4": Layout("..G.G.", ("", "", "16f")),
    "ufp4": Layout("..G.G.", ("16r", "16r", "16r")),
    "amd_mxfp4": Layout("......", ("16n", "16n", "16n")),
    "graphcore_ue5m3": Layout("..G.G.", ("32r", "32r", "32r")),
    "graphcore_e8m0": Layout("..G.G.", ("32r", "32r", "32r")),
    "graphcore_e4m3": Layout("..G.G.", ("16r", "16r", "16r")),
    "fusion_mxfp4": Layout("..G..."),
    "fusion_mxfp4_h32": Layout("..G...", ("", "", "32f")),
    "fusion_nvfp4": Layout("..G..."),
    "hif4": Layout("......", ("", "64r", "64r")),
    "mixfp4": Layout("..G.G.", ("", "", "16f")),
    "razer": Layout("..G.G.", ("", "", "16f")),
    "amdfp4": Layout("..G.G.", ("", "", "16f")),
    "amdfp4_one_level": Layout("..G.G.", ("", "", "16f")),
    "mxfp4_macro128": Layout("..G.G.", ("", "", "16f")),
}


@pytest.mark.parametrize("name", MATRIX)
def test_the_layout_is_the_published_one(name: str) -> None:
    recipe = RECIPES[name]
    drawn = "".join(
        letter if recipe.quantizer(p).random_bits else "." for p, letter in zip(POINTS, "XWGWGX", strict=True)
    )
    gemms: list[Gemm] = [getattr(recipe, gemm) for gemm in GEMMS]
    rotations = tuple(
        f"{g.rotation.size}{g.rotation.signs[0]}" if isinstance(g.rotation, Hadamard) else "" for g in gemms
    )
    assert Layout(drawn, rotations, recipe.backward_source == "forward") == MATRIX[name]


FORMATS = {
    "mxfp6": "e3m2 e8m0 32",
    "mxint8": "int8 e8m0 32",
    "mxfp8_ocp": "e4m3 e8m0 32",
    "nvfp4": "e2m1 ue4m3 16",
    "ue5m3": "e2m1 ue5m3 16",
    "ue5m3_b32": "e2m1 ue5m3 32",
    "tetrajet": "e2m1 e8m0 32",
    "tetrajet2": "e2m1 ue4m3 16",
    "if4": "e2m1 ue4m3 16",
    "ufp4": "e1m2 fp32 16",
    "graphcore_ue5m3": "e2m1 ue5m3_122880 32",
    "graphcore_e8m0": "e2m1 e8m0 32",
    "graphcore_e4m3": "e2m1 ue4m3 16",
    "quartet2": "e2m1 ue4m3 16",
    "quartet2_4over6": "e2m1 ue4m3 16",
    "quartet2_h32": "e2m1 ue4m3 16",
    "hif4": "s1p2 ue6m2 64",
    "mixfp4": "e2m1 ue4m3 16",
    "amdfp4": "e2m1 ue5m3_114688 16",
    "amdfp4_one_level": "e2m1 ue5m3_114688 16",
    "mxfp4_macro128": "e2m1 e8m0 32",
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_are_the_published_ones(name: str) -> None:
    for point in POINTS:
        q = RECIPES[name].quantizer(point)
        assert isinstance(q, BlockQuantizer)
        assert f"{q.element.name} {q.scale.name} {q.block}" == FORMATS[name]
