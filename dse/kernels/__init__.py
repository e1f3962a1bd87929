"""Kernels and exact elementary operations on plain tensors: nothing here knows of formats or recipes.

Triton kernels run where ``available()`` is true; each has a plain-torch twin elsewhere.
"""

from dse.kernels.availability import available, takes
from dse.kernels.factors import SumFactors
from dse.kernels.grouped import Grouping, grouped
from dse.kernels.matmul import contract
from dse.kernels.moments import moments
from dse.kernels.norms import norms
from dse.kernels.sums import column_sums

__all__ = ["Grouping", "SumFactors", "available", "column_sums", "contract", "grouped", "moments", "norms", "takes"]
