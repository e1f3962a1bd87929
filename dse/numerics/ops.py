"""Operation counts: what a technique costs, stated beside its mathematics and summed by ``dse.cost``."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Ops:
    """Elementary vector operations of one technique at one quantization point.

    Each count is a multiple of the size in its name, for an operand of ``n`` elements in blocks of ``b``:

    - ``element``: operations per element (total ``element * n``);
    - ``block``: operations per block (total ``block * n / b``);
    - ``output``: operations per element of the GEMM's output, such as applying a tensor scale in the epilogue;
    - ``matrix``: floating-point operations per element that run on the matrix unit (a dense Hadamard product);
    - ``random_bits``, ``block_bits``: random bits drawn per element and per block;
    - ``reads``: extra passes over the operand in memory (a tensor-wide amax before quantization needs one);
    - ``syncs``: grid-wide dependencies.

    Where a technique states both ``element`` and ``matrix``, they are two ways to do the same work, of which the faster
    one counts (``dse.cost``).

    Counts are a model, not measurements, after the op-ratio view of arXiv 2509.17791; ``why`` gives the formula in
    words.
    """

    element: float = 0.0
    block: float = 0.0
    output: float = 0.0
    matrix: float = 0.0
    random_bits: float = 0.0
    block_bits: float = 0.0
    reads: float = 0.0
    syncs: float = 0.0
    why: str = ""

    def __add__(self, other: Ops) -> Ops:
        counts = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "why"}
        return Ops(**counts, why=" + ".join(w for w in (self.why, other.why) if w))


FREE = Ops(why="0")
