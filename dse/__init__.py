"""A design-space exploration harness for FP4 and microscaling quantized training.

The mathematics (``dse.numerics``) imports nothing of sweeps, trials and reports, which are built on top of it. See
``docs/architecture.md``.
"""

import sys

from dse.checkout import TasksFinder
from dse.former_names import FormerNames

__version__ = "0.1.0"

sys.meta_path[:0] = [TasksFinder(), FormerNames()]
