"""Times of a GEMM and of a memory-bound kernel on hardware: a roofline with achieved shares."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from dse.cost.profiles import Profile
from dse.cost.roofline.constants import Constants
from dse.cost.roofline.work import Work

_TILES = ((256, 256, 1.0), (256, 128, 0.95), (128, 128, 0.85), (128, 64, 0.55), (64, 64, 0.35))
"""Tiles of a GEMM's output that a library chooses among, and the share of the largest one's rate: a smaller tile uses
each operand that it loads for fewer products."""
_SPLITS = (1, 2, 4, 8, 16)
"""Parts that a GEMM's sum may be split into, so that few tiles keep all processors busy; partial sums are added."""
_SHORTEST = 512
"""Elements of a sum that a part has at least."""
_CACHE = 0.5
"""Share of the last cache that a tensor may fill to be there when the next kernel reads it."""


class GemmCall(NamedTuple):
    """``matrices`` independent products [m, k] x [k, n] in one call, at the rate of ``width`` bits.

    ``operands``, ``result``: bytes per element of both operands, and of the result.
    """

    m: int
    n: int
    k: int
    width: int
    matrices: int = 1
    operands: float = 2.0
    result: float = 2.0

    @property
    def flop(self) -> float:
        return 2.0 * self.m * self.n * self.k * self.matrices


class Machine(NamedTuple):
    """Hardware with the constants that lead from its peaks to times."""

    profile: Profile
    constants: Constants

    def rate(self, width: int) -> float:
        """FLOP/s of a large GEMM: 1 / (1 / (matrix * peak) + 1 / feed)."""
        own = self.constants
        return 1 / (1 / (own.matrix * self.profile.peak(width)) + 1 / own.feed)

    def gemm(self, product: GemmCall) -> float:
        """Seconds of one GEMM call: whole waves of tiles or the bytes, whichever takes longer, and the launch.

        Operands that fit into the cache come from there, results stay there.
        """
        splits = [parts for parts in _SPLITS if parts == 1 or product.k >= parts * _SHORTEST]
        compute = min(self._waves(product, tile, parts) for tile in _TILES for parts in splits)
        m, n, k = product.m, product.n, product.k
        sizes = (m * k * product.operands, n * k * product.operands, m * n * product.result)
        return max(compute, sum(self.near(product.matrices * size) for size in sizes)) + self.start

    def kernel(self, work: Work, portable: bool = False) -> float:
        """Seconds of kernels one after another: bytes or operations, whichever take longer, launches and waits."""
        moved = self.move(work.read) + self.near(work.reread) + self.near(work.written)
        waits = work.launches * self.start + work.syncs * self.profile.sync.value
        return max(moved, self.operate(work, portable)) + waits

    def operate(self, work: Work, portable: bool = False) -> float:
        """Seconds of a kernel's operations alone."""
        share = self.constants.portable if portable else self.constants.vector
        return work.vector / (share * self.vector) + work.matrix / self.rate(16)

    def move(self, size: float) -> float:
        """Seconds for bytes through memory."""
        return size / (self.constants.bandwidth * self.profile.bandwidth.value)

    def near(self, size: float) -> float:
        """Seconds for a tensor that the kernel before has left, or the next one reads: through the cache if it fits."""
        cached = size <= _CACHE * self.profile.l2.value
        return self.move(size) / (self.constants.cache if cached else 1)

    @property
    def start(self) -> float:
        """Seconds that a kernel takes beside its work."""
        return self.constants.ramp * self.profile.launch.value

    @property
    def vector(self) -> float:
        """Single operations per second of the vector units at best."""
        return self.profile.vector.value / 2

    def _waves(self, product: GemmCall, tile: tuple[int, int, float], parts: int) -> float:
        rows, columns, share = tile
        tiles = product.matrices * ceil(product.m / rows) * ceil(product.n / columns) * parts
        processors = self.profile.processors.value
        each = 2.0 * rows * columns * product.k / parts / (share * self.rate(product.width) / processors)
        partial = 4.0 * product.matrices * product.m * product.n * parts if parts > 1 else 0.0
        return ceil(tiles / processors) * each + self.near(partial)


__all__ = ["GemmCall", "Machine"]
