"""The gallery: one file per published training system, one entry each."""

from dse.recipe import Recipe
from dse.recipes import bf16, mxfp4, mxfp8, nvfp4, ue5m3

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        bf16.BF16,
        bf16.FP32,
        mxfp8.MXFP8,
        mxfp4.MXFP4,
        mxfp4.MXFP4_RHT_SR,
        nvfp4.NVFP4,
        nvfp4.NVFP4_PLAIN,
        ue5m3.UE5M3,
    )
}

__all__ = ["RECIPES"]
