"""Storage formats of optimizers' moments by their YAML names (``training.first_moment``, ``second_moment``).

'fp32' is None: as they are computed.
"""

from dse.optim.moments.base import MomentFormat
from dse.optim.moments.block_scaled import MXFP8Moment, NVFP4CenteredRoot, NVFP4Moment, NVFP4Root
from dse.optim.moments.tensor_scaled import BFloat16Moment, TensorScaledFP8, TensorScaledFP16

FIRST_MOMENTS: dict[str, MomentFormat | None] = {
    "fp32": None,
    "bf16": BFloat16Moment(),
    "fp16": TensorScaledFP16(),
    "fp8": TensorScaledFP8(),
    "mxfp8": MXFP8Moment(),
    "nvfp4": NVFP4Moment(),
}
SECOND_MOMENTS: dict[str, MomentFormat | None] = {
    **FIRST_MOMENTS,
    "nvfp4_sqrt": NVFP4Root(),
    "nvfp4_hadamard": NVFP4CenteredRoot(),
}

__all__ = ["FIRST_MOMENTS", "SECOND_MOMENTS", "MomentFormat"]
