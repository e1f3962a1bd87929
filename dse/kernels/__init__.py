"""Kernels and exact elementary operations on plain tensors: nothing here knows of formats or recipes.

Triton kernels run where ``available()`` is true; each has a plain-torch twin elsewhere.
"""

from dse.kernels.availability import available
from dse.kernels.matmul import contract
from dse.kernels.norms import norms
from dse.kernels.sums import column_sums

__all__ = ["available", "column_sums", "contract", "norms"]
