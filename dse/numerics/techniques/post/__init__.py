"""Post-training methods: how trained weights are quantized for inference."""

from dse.numerics.techniques.post.base import PostTraining
from dse.numerics.techniques.post.error_diffusion import ErrorDiffusion
from dse.numerics.techniques.post.gptq import Gptq
from dse.numerics.techniques.post.rtn import Rtn

POST_TRAINING: dict[str, type[PostTraining]] = {"rtn": Rtn, "gptq": Gptq, "error_diffusion": ErrorDiffusion}

__all__ = ["POST_TRAINING", "ErrorDiffusion", "Gptq", "PostTraining", "Rtn"]
