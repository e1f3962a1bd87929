"""A design-space exploration harness for FP4 and microscaling quantized training.

The mathematics (``dse.numerics``) imports nothing of sweeps, trials and reports, which are built on top of it. See
``docs/architecture.md``.
"""

from dse import checkout

__version__ = "0.1.0"

checkout.install()
