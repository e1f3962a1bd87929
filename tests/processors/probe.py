"""A script: what may depend on a processor's route, in a few seconds. It ends with 1 and says what differs."""

from __future__ import annotations

import random
import sys
import time

import numpy as np
import torch

from dse.kernels.alignment import products
from dse.kernels.sqrt import sqrt
from dse.tasks import TASKS
from dse.tasks.nets.attention import attention
from dse.train.pack_check import compared
from tests.processors.operations import FORMS
from tests.processors.test_operations import SHAPES, differs, place


def main() -> int:
    torch.set_num_threads(1)
    seed = random.randrange(2**31)
    print(f"seed {seed}, {torch.backends.cpu.get_cpu_capability()}")
    torch.manual_seed(seed)
    found = [f"{form} of {shape}" for form in FORMS for shape in SHAPES[1::2] if differs(FORMS[form], shape, 3)]
    for _ in range(150):
        m, n, k = random.choices((1, 2, 5, 10, 16, 33, 64, 128), k=3)
        a, b = torch.randn(3, m, k), torch.randn(3, n, k)
        whole = products(place(a, random.randrange(9)), place(b, random.randrange(9)).mT)
        if not all(torch.equal(products(a[i : i + 1], b[i : i + 1].mT)[0], whole[i]) for i in range(3)):
            found.append(f"a product of {m}, {n}, {k}")
    x = torch.rand(10**6) * 10
    if not np.array_equal(sqrt(x).numpy(), np.sqrt(x.numpy())):
        found.append("square roots")
    for shape in ((1, 3, 1, 4), (3, 1, 33, 5), (2, 2, 9, 8)):
        q, k, v = torch.randn(3, 4, *shape).unbind(0)
        whole = torch.vmap(attention)(q, k, v)
        if not all(torch.equal(attention(q[i], k[i], v[i]), whole[i]) for i in range(4)):
            found.append(f"attention of {shape}")
    own = [TASKS["regression"](source="diabetes"), TASKS["regression"](net="linear", noise=0.1)]
    for task, batch in zip(own, (3, 5), strict=True):
        found += [what for what, same in compared([task], [batch]) if not same]
    print("\n".join(found) or f"all the same, {time.process_time():.1f} s")
    return len(found) > 0


if __name__ == "__main__":
    sys.exit(main())
