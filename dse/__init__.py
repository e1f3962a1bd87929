"""A design-space exploration harness for FP4 and microscaling quantized training.

The mathematics (``formats``, ``cast``, ``block``, ``gemm``, ``linear``) imports nothing of the rest of the package;
sweeps, trials and reports are built on top of it. See ``docs/architecture.md``.
"""

__version__ = "0.1.0"
