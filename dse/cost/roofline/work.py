"""What kernels do, as an algebra: work is added, and multiplied by how often it is done."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """Totals of one or more kernels; the sum of two is the work of both, ``work * 2`` that of doing it twice.

    - ``vector``: operations on the vector units; ``matrix``: floating-point operations on the matrix unit in BF16;
    - ``read``, ``written``: bytes; ``reread``: bytes that a kernel before it has just read, which a cache may hold;
    - ``passes``: whole passes over an operand in memory; ``random_bits``: bits drawn;
    - ``syncs``: dependencies of the whole grid; ``launches``: kernels.
    """

    vector: float = 0.0
    matrix: float = 0.0
    read: float = 0.0
    reread: float = 0.0
    written: float = 0.0
    passes: float = 0.0
    random_bits: float = 0.0
    syncs: float = 0.0
    launches: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: float) -> Work:
        return Work(*(getattr(self, f.name) * times for f in fields(self)))

    @property
    def bytes(self) -> float:
        """All bytes through memory, without a cache's help."""
        return self.read + self.reread + self.written


__all__ = ["Work"]
