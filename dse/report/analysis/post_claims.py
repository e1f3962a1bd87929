"""Published claims about post-training quantization, as data."""

from __future__ import annotations

from dse.numerics.recipe import Recipe
from dse.report.analysis.changed_recipes import changed
from dse.report.analysis.claim_list import Claim

_MARGIN = 0.002
"""Of the baseline's improvement: what these methods are apart is less than what recipes of training are."""
_MX = "arXiv 2310.10537, direct cast, 30M to 175B parameters"
_MR_GPTQ = "arXiv 2509.23202, 8B parameters, W4A4"
_NEAREST = ("*.rounding", "nearest_even")


def _rotation(size: int) -> tuple[str, object]:
    return "fprop.rotation", {"hadamard": {"size": size, "signs": "none"}}


def _after(base: str, method: object, *settings: tuple[str, object]) -> Recipe:
    return changed(base, *settings, ("post", method))


_SHRUNK = {"gptq": {"scales": "shrunk"}}
_INT8, _E4M3 = _after("mxint8", "rtn", _NEAREST), _after("mxfp8_ocp", "rtn", _NEAREST)
_E5M2 = _after("mxfp8_ocp", "rtn", _NEAREST, ("*.element", "e5m2"), ("*.constant", 32768))
_E2M3, _E3M2 = _after("mxfp6_e2m3", "rtn", _NEAREST), _after("mxfp6", "rtn", _NEAREST)
_LLM_FP4 = "arXiv 2310.16836 (LLM-FP4), 7B parameters, W4A4"


def _fpq(**options: object) -> Recipe:
    """LLM-FP4's layout at W4A4: one FP32 scale per output channel of W and one for X."""
    layout = {"element": "e2m1", "scale": "fp32", "block": 0}
    points = (("fprop.rhs", {"block": layout}), ("fprop.lhs", {"block": {**layout, "tile": 0}}))
    return _after("bf16", {"fpq": options}, *points)


_HQDIT, _FP4DIT = "arXiv 2405.19751 (HQ-DiT), DiT-XL/2, W4A4", "arXiv 2503.15465 (FP4DiT), W4A6"


def _per_token(method: object, *settings: tuple[str, object], x: str = "e2m1") -> Recipe:
    """HQ-DiT's layout: one FP32 scale per output channel of W and one per token of X."""
    w, own = ({"element": element, "scale": "fp32", "block": 0} for element in ("e2m1", x))
    return _after("bf16", method, ("fprop.rhs", {"block": w}), ("fprop.lhs", {"block": own}), *settings)


_MANT = "arXiv 2502.18755 (M-ANT), 7B parameters, W4A8"


def _grouped(method: object) -> Recipe:
    """M-ANT's layout: a scale per group of 64, INT8 activations."""
    w, x = ({"element": element, "scale": "bf16", "block": 64} for element in ("int4", "int8"))
    return _after("bf16", method, ("fprop.rhs", {"block": w}), ("fprop.lhs", {"block": x}))


_ADAPTIVE = _grouped({"rtn": {"scales": "mant"}})
_ONE_GRID = _grouped({"rtn": {"scales": {"mant": {"coefficients": [17], "given": False}}}})
_MICRO = "arXiv 2411.05282 (MicroScopiQ), 7B to 70B parameters, W4 and W2"


def _macro(element: object, constant: float, **options: object) -> Recipe:
    """MicroScopiQ's layout: a power-of-two scale per block of 128, INT8 activations; GPTQ."""
    block = {"scale": "e8m0", "block": 128, "scale_rounding": "toward_zero"}
    w, x = ({"element": own, "constant": c, **block} for own, c in ((element, constant), ("int8", 64)))
    points = (("fprop.rhs", {"block": w}), ("fprop.lhs", {"block": x}))
    return _after("bf16", {"gptq": options} if options else "gptq", *points)


_MXINT4, _MXINT2 = ("int4", 4), ({"values": [0, 1]}, 1)
_TURNED = ("fprop.rotation", {"hadamard": {"size": 64}})
_GATE = ("layers", [{"kind": "gate", "W.element": "e3m0", "optional": True}])
_AUTOQUANTIZE = "NVIDIA Model-Optimizer, AutoQuantize"


def _searched(**options: object) -> Recipe:
    """NVFP4, MXFP8 or BF16 for each layer, under 6 bits per weight."""
    formats = [{"block": {"element": "e4m3", "scale_rounding": "up"}}, "bf16"]
    return _after("nvfp4_plain", {"autoquantize": {"bits": 6.0, "formats": formats, **options}})


_SQ_DM = "arXiv 2501.15448 (SQ-DM), U-Nets of EDM"
_VSQ = ("*.element", "int4")
_EIGHT = {"first_blocks": 1, "last_blocks": 1, "recipe": changed("mxint8", _NEAREST)}
_INT4, _MIXED = _after("nvfp4_plain", "rtn", _VSQ), _after("nvfp4_plain", "rtn", _VSQ, ("layers", [_EIGHT]))
_LQER = {"rtn": {"branch": {"lqer": {"rank": 8}}}}
_SVDQUANT = {"gptq": {"balance": "smoothquant", "branch": {"svdquant": {"rank": 8}}}}
_SAGE = "arXiv 2505.11594 (SageAttention3), video and image models"
_SAGE3, _NO_K = (_after("sageattention3", "rtn", *own) for own in ((), (("attention.smooth_keys", False),)))
_NO_Q = _after("sageattention3", "rtn", ("attention.smooth_queries", "none"))
_ONE_LEVEL = ("attention.outputs.fprop.lhs.tensor_scale", {"outer": {"blocks": 0, "target": 1 / 6}})
_SAGE_MXFP4 = ("attention.forward", {"block": {"constant": 4, "scale_rounding": "toward_zero"}})
_FP4, _NV = _after("mxfp4", "rtn"), _after("nvfp4_plain", "rtn")

POST_CLAIMS = tuple(
    Claim(statement, source, better, worse, same, _MARGIN)
    for statement, source, better, worse, same in (
        ("Direct cast: MXINT8 loses less than MXFP8 E4M3", "arXiv 2510.25602; " + _MX, _INT8, _E4M3, False),
        ("Direct cast: MXFP8 E4M3 loses less than E5M2", _MX, _E4M3, _E5M2, False),
        ("Direct cast: MXFP6 E2M3 loses as much as MXFP8 E4M3", _MX, _E2M3, _E4M3, True),
        ("Direct cast: MXFP6 E2M3 loses less than E3M2", _MX, _E2M3, _E3M2, False),
        ("Direct cast: MXFP6 E3M2 loses less than MXFP4", _MX, _E3M2, _FP4, False),
        ("Direct cast: NVFP4 loses less than MXFP4", _MR_GPTQ, _NV, _FP4, False),
        ("MXFP4: error diffusion loses less than direct cast", _MX, _after("mxfp4", "error_diffusion"), _FP4, False),
        ("MXFP4: GPTQ loses less than direct cast", _MR_GPTQ, _after("mxfp4", "gptq"), _FP4, False),
        ("NVFP4: GPTQ loses less than direct cast", _MR_GPTQ, _after("nvfp4_plain", "gptq"), _NV, False),
        (
            "MXFP4: MR-GPTQ (Hadamard 32, scales of 4/3 2^k) loses less than GPTQ",
            _MR_GPTQ,
            _after("mxfp4", "gptq", ("forward.gain", 0.75), _rotation(32)),
            _after("mxfp4", "gptq"),
            False,
        ),
        (
            "NVFP4: MR-GPTQ (Hadamard 16, searched scales) loses less than GPTQ",
            _MR_GPTQ,
            _after("nvfp4_plain", _SHRUNK, _rotation(16)),
            _after("nvfp4_plain", "gptq"),
            False,
        ),
        ("MXFP4: a Hadamard of 32 helps direct cast", _MR_GPTQ, _after("mxfp4", "rtn", _rotation(32)), _FP4, False),
        (
            "NVFP4: a Hadamard of 16 hurts direct cast",
            _MR_GPTQ,
            _NV,
            _after("nvfp4_plain", "rtn", _rotation(16)),
            False,
        ),
        (
            "NVFP4: SmoothQuant loses less than direct cast",
            _MR_GPTQ,
            _after("nvfp4_plain", {"rtn": {"balance": "smoothquant"}}),
            _NV,
            False,
        ),
        (
            "NVFP4: AWQ loses less than direct cast",
            "arXiv 2306.00978; arXiv 2512.02010",
            _after("nvfp4_plain", {"rtn": {"balance": "awq"}}),
            _NV,
            False,
        ),
        (
            "NVFP4: four-over-six loses less than direct cast",
            "arXiv 2512.02010",
            _after("nvfp4_plain", "rtn", ("forward.choice", "four_over_six")),
            _NV,
            False,
        ),
        (
            "NVFP4: swept weight scales lose less than those of the maximum",
            "arXiv 2606.07618 (ScaleSweep)",
            _after("nvfp4_plain", "rtn", ("W.choice", "scale_sweep"), ("W.scale_rounding", "toward_zero")),
            _NV,
            False,
        ),
        (
            "MXFP4: scales by sign (AMXFP4) lose less than direct cast",
            "arXiv 2411.09909",
            _after(
                "mxfp4",
                "rtn",
                ("*.outliers", "asymmetric"),
                ("*.scale", "ue5m2"),
                ("*.constant", 6),
                ("*.scale_rounding", "nearest_even"),
            ),
            _FP4,
            False,
        ),
        (
            "LLM-FP4: searched formats and clips lose less than MinMax",
            _LLM_FP4,
            _fpq(shifts=False),
            _fpq(rounds=0, shifts=False),
            False,
        ),
        ("LLM-FP4: pre-shifted exponent biases lose less than none", _LLM_FP4, _fpq(), _fpq(shifts=False), False),
        (
            "HQ-DiT: a random Hadamard rotation of activations and weights helps",
            _HQDIT,
            _per_token("hqdit", _TURNED),
            _per_token("hqdit"),
            False,
        ),
        ("HQ-DiT loses less than LLM-FP4", _HQDIT, _per_token("hqdit", _TURNED), _fpq(), False),
        (
            "HQ-DiT: formats by the ratio lose less than E2M1 for all layers",
            _HQDIT,
            _per_token("hqdit", _TURNED),
            _per_token("gptq", _TURNED),
            False,
        ),
        (
            "FP4DiT: learned rounding loses less than rounding to nearest",
            _FP4DIT,
            _per_token("adaround", _GATE, x="e2m3"),
            _per_token("rtn", _GATE, x="e2m3"),
            False,
        ),
        (
            "FP4DiT: scale-aware AdaRound loses less than AdaRound",
            _FP4DIT,
            _per_token("adaround", _GATE, x="e2m3"),
            _per_token({"adaround": {"scale_aware": False}}, _GATE, x="e2m3"),
            False,
        ),
        ("SQ-DM: MXINT8 in the first and last blocks loses less than INT4 everywhere", _SQ_DM, _MIXED, _INT4, False),
        ("SQ-DM loses as much as MXINT8 everywhere", _SQ_DM, _MIXED, _INT8, True),
        ("M-ANT: a grid for each group loses less than INT4", _MANT, _ADAPTIVE, _grouped("rtn"), False),
        ("M-ANT: a grid for each group loses less than one for all (a = 17)", _MANT, _ADAPTIVE, _ONE_GRID, False),
        ("AutoQuantize: 6 bits per weight lose less than NVFP4 everywhere", _AUTOQUANTIZE, _searched(), _NV, False),
        (
            "AutoQuantize: scores by gradients lose less than errors of outputs",
            _AUTOQUANTIZE,
            _searched(),
            _searched(score="output"),
            False,
        ),
        (
            "MicroScopiQ: wider outliers and pruned inliers lose less than GPTQ, MXINT4",
            _MICRO,
            _macro(*_MXINT4, scales="microscopiq"),
            _macro(*_MXINT4),
            False,
        ),
        (
            "MicroScopiQ: wider outliers and pruned inliers lose less than GPTQ, MXINT2",
            _MICRO,
            _macro(*_MXINT2, scales="microscopiq"),
            _macro(*_MXINT2),
            False,
        ),
        (
            "NVFP4: a low-rank branch for the error (LQER) loses less than direct cast",
            "arXiv 2402.02446",
            _after("nvfp4_plain", _LQER),
            _NV,
            False,
        ),
        (
            "NVFP4: SVDQuant loses less than GPTQ",
            "arXiv 2411.05007",
            _after("nvfp4_plain", _SVDQUANT),
            _after("nvfp4_plain", "gptq"),
            False,
        ),
        (
            "SageAttention3: two levels of P lose less than one",
            _SAGE,
            _SAGE3,
            _after("sageattention3", "rtn", _ONE_LEVEL),
            False,
        ),
        (
            "SageAttention3: NVFP4 loses less than MXFP4",
            _SAGE,
            _SAGE3,
            _after("sageattention3", "rtn", _SAGE_MXFP4),
            False,
        ),
        ("SageAttention3: smoothing keys helps", _SAGE, _SAGE3, _NO_K, False),
        ("SageAttention3: smoothing keys matters more than smoothing queries", _SAGE, _NO_Q, _NO_K, False),
    )
)

__all__ = ["POST_CLAIMS"]
