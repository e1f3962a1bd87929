"""The torch operations of a training and its evaluation, reviewed for what an element's bits depend on.

An operation that a test finds in a training and not here has to be looked at: is an element's result a function of the
numbers that it is made from, whatever lies beside them, in whatever place?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVED = _names("""
    _local_scalar_dense _to_copy _unsafe_view alias arange as_strided cat clone constant_pad_nd copy_ detach
    embedding empty empty_like expand full full_like gather index index_copy_ index_select lift_fresh linspace
    masked_fill masked_fill_ max_pool2d_with_indices new_empty new_ones new_zeros ones ones_like permute pixel_shuffle
    pixel_unshuffle promote_types randn scalar_tensor scatter scatter_ select slice slice_backward split squeeze stack t
    transpose triu unbind unsqueeze view where zeros zeros_like
""")
"""Creates, copies, chooses: nothing is rounded. (``randn``, ``linspace``: constants that all members share.)"""

EXACT = _names("""
    __lshift__ __rshift__ abs abs_ all amax aminmax any argmax bitwise_and bitwise_not bitwise_or bitwise_right_shift
    ceil_ clamp clamp_ clamp_max clamp_min clamp_min_ copysign_ eq floor floor_ floor_divide frexp ge gt isinf isnan le
    logical_and logical_and_ logical_or_ lt max maximum min nan_to_num ne neg relu remainder round searchsorted sign
    sort threshold_backward trunc
""")
"""Whole numbers, comparisons, signs, roundings to whole numbers: there is one right answer, and it is given."""

ROUNDED = _names("""
    add add_ div div_ mul mul_ reciprocal rsub sub sub_
""")
"""One correctly rounded operation of IEEE 754 an element, by all instruction sets."""

PROBED = _names("""
    _log_softmax _log_softmax_backward_data _softmax _softmax_backward_data col2im cos cumprod cumsum
    embedding_dense_backward erf exp linalg_vector_norm max_pool2d_with_indices_backward mean
    mse_loss mse_loss_backward native_layer_norm native_layer_norm_backward pow rsqrt scatter_add sin special_ndtri
    sqrt sum
""")
"""Sums, and functions that a library or a polynomial computes: tried out, a member against itself alone."""

SHARED = frozenset({"cumprod", "cumsum"})
"""Of the probed ones, those whose operands are the same for all members, or whole numbers."""

BY_FORM = frozenset({"_softmax_backward_data", "embedding_dense_backward"})
"""Tried out in ``FORMS`` alone: they are called for members of one recipe, or with the number of members."""

PRODUCTS = frozenset({"mm", "bmm"})
"""By way of ``dse.kernels.alignment`` alone, which is what the calls are checked for."""

REVIEWED = MOVED | EXACT | ROUNDED | PROBED | PRODUCTS


def embedded(x: Tensor) -> Tensor:
    """The gradient [E, 3, C] of a table of three rows at R places, where that of what was looked up is x."""
    tokens = (torch.arange(x.shape[1]) % 3).expand(len(x), -1)
    tables = torch.zeros(len(x), 3, x.shape[-1], requires_grad=True)
    return torch.autograd.grad(torch.vmap(torch.nn.functional.embedding)(tokens, tables), tables, x)[0]


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "exp": torch.exp,
    "log": lambda x: (x.abs() + 1e-3).log(),
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "sqrt": lambda x: x.abs().sqrt(),
    "sqrt64": lambda x: x.double().abs().sqrt(),
    "rsqrt": lambda x: (x.abs() + 1e-3).rsqrt(),
    "ndtri": lambda x: torch.special.ndtri((x.double() / 9).clamp(-0.49, 0.49) + 0.5),
    "cube": lambda x: x**3,
    "lerp": lambda x: torch.lerp(x, x * x, 0.3),
    "softmax": lambda x: x.softmax(-1),
    "gradient of softmax": lambda x: torch.ops.aten._softmax_backward_data(x, x.softmax(-1), -1, x.dtype),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "logsumexp of two": lambda x: x.logsumexp((-2, -1)),
    "sum of columns": lambda x: x.sum(-2),
    "sum of rows": lambda x: x.sum(-1),
    "sum of both": lambda x: x.sum((-2, -1)),
    "sum of transposed rows": lambda x: x.mT.sum(-1),
    "sum in float64": lambda x: x.double().sum((-2, -1)),
    "mean of rows": lambda x: x.mean(-1, keepdim=True),
    "mean of columns": lambda x: x.mean(-2),
    "mean of both": lambda x: x.mean((-2, -1)),
    "norm": lambda x: torch.linalg.vector_norm(x.flatten(1), dim=1),
    "norm of a part": lambda x: torch.linalg.vector_norm(x.flatten(1)[:, 1:], dim=1),
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]),
    "gradient of an embedding": embedded,
    "cumsum": lambda x: x.cumsum(-1),
}
"""The probed ones and more, on a stack x [E, R, C]; the first axis of what they give is the members'."""

DEPENDENT: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "softplus": torch.nn.functional.softplus,
    "elu": torch.nn.functional.elu,
    "mish": torch.nn.functional.mish,
    "exp2": torch.exp2,
    "pow": lambda x: x.abs() ** 0.3,
    "selu": torch.nn.functional.selu,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "atan2": lambda x: torch.atan2(x, x + 1),
}
"""What is known to depend on an element's place on some processor: the last ones take another routine."""
