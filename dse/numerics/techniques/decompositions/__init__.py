"""Decompositions: products of a linear as a low-precision product plus terms in higher precision."""

from dse.numerics.techniques.decompositions.base import Decomposition, Kept, SplitProduct, Term
from dse.numerics.techniques.decompositions.out_control import OutControl

DECOMPOSITIONS: dict[str, type[Decomposition]] = {"out_control": OutControl}

__all__ = ["DECOMPOSITIONS", "Decomposition", "Kept", "OutControl", "SplitProduct", "Term"]
