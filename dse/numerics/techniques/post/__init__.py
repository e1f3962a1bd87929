"""Post-training methods: how trained weights are quantized for inference."""

from dse.numerics.techniques.post.adaround import AdaRound
from dse.numerics.techniques.post.autoquantize import AutoQuantize, LayerFormat, candidates
from dse.numerics.techniques.post.base import PostTraining
from dse.numerics.techniques.post.error_diffusion import ErrorDiffusion
from dse.numerics.techniques.post.fpq import Fpq
from dse.numerics.techniques.post.gptq import Gptq
from dse.numerics.techniques.post.hqdit import HqDit
from dse.numerics.techniques.post.operands import PostOperands, StaticInput
from dse.numerics.techniques.post.rtn import Rtn

POST_TRAINING: dict[str, type[PostTraining]] = {
    "rtn": Rtn,
    "gptq": Gptq,
    "error_diffusion": ErrorDiffusion,
    "fpq": Fpq,
    "hqdit": HqDit,
    "adaround": AdaRound,
    "autoquantize": AutoQuantize,
}

__all__ = [
    "POST_TRAINING",
    "AdaRound",
    "AutoQuantize",
    "ErrorDiffusion",
    "Fpq",
    "Gptq",
    "HqDit",
    "LayerFormat",
    "PostOperands",
    "PostTraining",
    "Rtn",
    "StaticInput",
    "candidates",
]
