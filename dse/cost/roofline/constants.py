"""The constants of the time model: fitted to measurements, or assumed, and stated as such."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import PositiveFloat

from dse.cost.described import Described, read


class Constants(Described):
    """What lies between peak rates and measured times.

    Fitted (``dse cost --check``):

    - ``matrix``: achieved share of the matrix unit's peak, the same for all formats;
    - ``feed``: FLOP/s at which operands reach the matrix unit and results leave it, whatever their format: it bounds
      narrow formats more than wide ones, which is why the achieved share falls with the width;
    - ``bandwidth``: achieved share of memory bandwidth;
    - ``ramp``: what a kernel costs beside its work, in launches of the profile;
    - ``portable``: achieved share of the vector rate in kernels written in Triton;
    - ``sustained``: time of a long training beside the sum of its kernels (clocks under load, communication, host).

    Assumed:

    - ``vector``: achieved share of the vector rate in tuned kernels, where a multiply-add counts as one operation;
    - ``cache``: bandwidth of the last cache over that of memory, for what fits into half of it;
    - ``attention``: achieved share of the 16-bit peak in attention, forward and backward;
    - ``fused_elementwise``: share of norms', activations' and residuals' memory traffic that is left when they are
      fused with their neighbors.
    """

    matrix: PositiveFloat
    feed: PositiveFloat
    bandwidth: PositiveFloat
    ramp: PositiveFloat
    portable: PositiveFloat
    sustained: PositiveFloat
    vector: PositiveFloat
    cache: PositiveFloat
    attention: PositiveFloat
    fused_elementwise: PositiveFloat


FITTED = ("matrix", "feed", "bandwidth", "ramp", "portable", "sustained")
"""Constants that measurements decide."""


@cache
def constants() -> Constants:
    """The constants that come with the package."""
    return read(Path(__file__).parent / "constants.yaml", Constants)


__all__ = ["FITTED", "Constants", "constants"]
