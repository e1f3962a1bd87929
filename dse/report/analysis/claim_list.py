"""Published claims about training recipes, as data: which of two recipes is said to be better, or that none is."""

from __future__ import annotations

from dataclasses import dataclass

from dse.numerics.recipe import Recipe
from dse.recipes import RECIPES
from dse.report.analysis.changed_recipes import backward_only, changed, rotated


@dataclass(frozen=True)
class Claim:
    """A published comparison of two recipes, whose content alone counts.

    ``better`` loses less than ``worse``; or, with ``same``, as much: then ``better`` is the recipe that the statement
    is about, and ``worse`` the one it is measured by. ``margin``: the smallest difference that would count, as a share
    of the baseline's improvement: what excludes it contradicts the claim.
    """

    statement: str
    source: str
    better: Recipe
    worse: Recipe
    same: bool = False
    margin: float = 0.01


def _fixed(size: int) -> dict[str, object]:
    return {"hadamard": {"size": size, "signs": "fixed"}}


_NVIDIA = "arXiv 2509.25149, 1.2B and 12B parameters"
_QUARTET2 = "arXiv 2601.22813, 30M to 200M parameters"
_UP = ("*.scale_rounding", "up")
_SR = ("G.rounding", "stochastic")
_BACKWARD = ("backward.rotation", {"hadamard": {"size": 32}})

CLAIMS = (
    Claim(
        "NVFP4: stochastic rounding of gradients helps",
        _NVIDIA,
        RECIPES["nvfp4"],
        changed("nvfp4", ("G.rounding", "nearest_even")),
    ),
    Claim(
        "NVFP4: a random Hadamard rotation in wgrad helps",
        _NVIDIA,
        RECIPES["nvfp4"],
        changed("nvfp4", ("wgrad.rotation", "none")),
    ),
    Claim(
        "NVFP4: rotate in wgrad alone; a rotation in dgrad too hurts",
        _NVIDIA,
        RECIPES["nvfp4"],
        rotated("nvfp4", "dgrad", 16),
    ),
    Claim("NVFP4: 16x16 tiles of weights help", _NVIDIA, RECIPES["nvfp4"], changed("nvfp4", ("W.tile", 1))),
    Claim(
        "NVFP4: stochastic rounding of weights and activations hurts",
        _NVIDIA,
        RECIPES["nvfp4"],
        changed("nvfp4", ("*.rounding", "stochastic")),
    ),
    Claim("NVFP4 without any stabilizer is worse", _NVIDIA, RECIPES["nvfp4"], RECIPES["nvfp4_plain"]),
    Claim(
        "NVFP4 loses less than MXFP4 with rotation and stochastic gradients",
        "arXiv 2509.25149, 8B parameters, 1T tokens",
        RECIPES["nvfp4"],
        RECIPES["mxfp4_rht_sr"],
    ),
    Claim("4/6 lowers NVFP4's loss", "arXiv 2512.02010; arXiv 2601.22813", RECIPES["four_over_six"], RECIPES["nvfp4"]),
    Claim(
        "TetraJet-v2 loses less than NVFP4",
        "arXiv 2510.27527; arXiv 2601.22813",
        RECIPES["tetrajet2"],
        RECIPES["nvfp4"],
    ),
    Claim("Quartet II loses less than NVFP4", _QUARTET2, RECIPES["quartet2"], RECIPES["nvfp4"]),
    Claim("Quartet II: 4/6 in the forward pass helps", _QUARTET2, RECIPES["quartet2_4over6"], RECIPES["quartet2"]),
    Claim(
        "Quartet II: MS-EDEN beats stochastic rounding in the backward pass",
        _QUARTET2,
        RECIPES["quartet2_4over6"],
        RECIPES["quartet2_sr"],
    ),
    Claim(
        "Quartet II: Hadamards of 32 do as well as 128",
        _QUARTET2,
        RECIPES["quartet2_h32"],
        RECIPES["quartet2"],
        same=True,
    ),
    Claim(
        "MXFP4 backward, rotated: nearest rounding beats stochastic",
        _QUARTET2,
        backward_only(changed("mxfp4", _BACKWARD)),
        backward_only(changed("mxfp4", _BACKWARD, ("backward.rounding", "stochastic"))),
    ),
    Claim(
        "MXFP4 backward: rotation and stochastic rounding repair it",
        "arXiv 2502.20586, 345M to 6.7B parameters",
        RECIPES["tseng_mxfp4"],
        backward_only(RECIPES["mxfp4"]),
    ),
    Claim(
        "MXFP4: a random Hadamard rotation repairs dgrad",
        "arXiv 2502.20586; arXiv 2505.14669",
        rotated("mxfp4", "dgrad", 32),
        RECIPES["mxfp4"],
    ),
    Claim(
        "MXFP4: a fixed rotation repairs wgrad",
        "arXiv 2605.09825",
        changed("mxfp4", ("wgrad.rotation", _fixed(32))),
        RECIPES["mxfp4"],
    ),
    Claim(
        "MXFP4: random signs in wgrad add nothing to fixed ones",
        "arXiv 2605.09825",
        rotated("mxfp4", "wgrad", 32),
        changed("mxfp4", ("wgrad.rotation", _fixed(32))),
        same=True,
    ),
    Claim("MXFP4: stochastic gradients hurt", "arXiv 2605.09825", RECIPES["mxfp4"], changed("mxfp4", _SR)),
    Claim(
        "MXFP4: scales rounded up beat OCP's floor",
        "arXiv 2502.20853; arXiv 2506.08027",
        changed("mxfp4", _UP),
        RECIPES["mxfp4"],
    ),
    Claim("TetraJet loses less than plain MXFP4", "arXiv 2502.20853", RECIPES["tetrajet"], RECIPES["mxfp4"]),
    Claim("Q-EMA improves TetraJet", "arXiv 2502.20853", RECIPES["tetrajet_q_ema"], RECIPES["tetrajet"]),
    Claim("Q-Ramping improves TetraJet", "arXiv 2502.20853", RECIPES["tetrajet_q_ramping"], RECIPES["tetrajet"]),
    Claim(
        "UE5M3 scales without a rotation beat NVFP4",
        "arXiv 2609.02846, 8B parameters",
        RECIPES["ue5m3"],
        RECIPES["nvfp4"],
    ),
    Claim(
        "Format-aware fusion: Hadamard 32 improves MXFP4",
        "arXiv 2610.00053, 8B parameters",
        RECIPES["fusion_mxfp4_h32"],
        RECIPES["fusion_mxfp4"],
    ),
    Claim("MXFP8 trains as BF16 does", "arXiv 2506.08027, 8B parameters", RECIPES["mxfp8"], RECIPES["bf16"], same=True),
    Claim("MXFP6 trains as FP32 does", "arXiv 2310.10537", RECIPES["mxfp6"], RECIPES["fp32"], same=True),
)

__all__ = ["CLAIMS", "Claim"]
