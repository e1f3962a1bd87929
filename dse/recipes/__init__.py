"""The gallery: one file per published training system, one entry each."""

from dse.errors import Lookup, UserError
from dse.numerics.recipe import Recipe
from dse.recipes import (
    alto,
    amd,
    attention,
    averis,
    bf16,
    by_layer,
    chon,
    four_over_six,
    fp4_all_the_way,
    full_stack,
    fusion,
    graphcore,
    healing,
    hif4,
    if4,
    mixed_grids,
    mx_ocp,
    mxfp4,
    mxfp8,
    nvfp4,
    per_token,
    quartet,
    quartet2,
    tetrajet,
    tetrajet2,
    tseng,
    ue5m3,
    ufp4,
    wang,
    zhou,
)

_BY_NAME: dict[str, Recipe] = {
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
        ue5m3.UE5M3_CURRENT,
        ue5m3.UE5M3_B32,
        mx_ocp.MXFP4_AWAY,
        mx_ocp.MXFP4_WEIGHTS,
        mx_ocp.MXFP6,
        mx_ocp.MXFP6_E2M3,
        mx_ocp.MXFP8_OCP,
        mx_ocp.MXINT8,
        wang.WANG_FP4,
        zhou.ZHOU_MODULEWISE,
        tseng.TSENG_MXFP4,
        quartet.QUARTET,
        quartet2.QUARTET2,
        quartet2.QUARTET2_4OVER6,
        quartet2.QUARTET2_H32,
        quartet2.QUARTET2_SR,
        tetrajet.TETRAJET,
        tetrajet.TETRAJET_Q_EMA,
        tetrajet.TETRAJET_Q_RAMPING,
        tetrajet2.TETRAJET2_BASE,
        tetrajet2.TETRAJET2,
        tetrajet2.TETRAJET2_OUTCONTROL,
        averis.AVERIS,
        averis.NVFP4_AVERIS,
        chon.CHON,
        fp4_all_the_way.FP4_ALL_THE_WAY,
        fp4_all_the_way.FP4_ALL_THE_WAY_QAF,
        four_over_six.FOUR_OVER_SIX,
        four_over_six.NVFP4_4OVER6,
        if4.IF4,
        ufp4.UFP4,
        amd.AMD_MXFP4,
        healing.MLPERF_MXFP4_HEALING,
        graphcore.GRAPHCORE_UE5M3,
        graphcore.GRAPHCORE_E8M0,
        graphcore.GRAPHCORE_E4M3,
        fusion.FUSION_MXFP4,
        fusion.FUSION_MXFP4_H32,
        fusion.FUSION_NVFP4,
        hif4.HIF4,
        mixed_grids.MIXFP4,
        mixed_grids.RAZER,
        per_token.PER_TOKEN_NVFP4,
        per_token.PER_TOKEN_NVFP4_BACKWARD,
        alto.AMDFP4,
        alto.AMDFP4_ONE_LEVEL,
        alto.MXFP4_MACRO128,
        by_layer.NVFP4_LAST15,
        by_layer.TORCHAO_DSV3,
        by_layer.NEMOTRON3_SUPER,
        zhou.ZHOU_MODULEWISE_FP8,
        attention.SAGEBWD,
        attention.SAGEATTENTION3,
        attention.ATTN_QAT,
        attention.FULL_STACK_ATTENTION,
        attention.FP4_FA4,
        full_stack.FULL_STACK_FP4,
    )
}

RECIPES: Lookup[Recipe] = Lookup("recipe", _BY_NAME)
"""By name; an unknown name is a ``UserError`` with the nearest one."""


def find_recipe(recipe: Recipe | str) -> Recipe:
    """A recipe, or that of a name. Raises UserError for an unknown name, and for what is neither."""
    if isinstance(recipe, str):
        return RECIPES[recipe]
    if not isinstance(recipe, Recipe):
        raise UserError(f"expected a recipe or the name of one, not {type(recipe).__name__}")
    return recipe


__all__ = ["RECIPES", "find_recipe"]
