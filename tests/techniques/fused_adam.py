"""A script: the fused kernel of Adam against the plain-torch step, on the CPU in Triton's interpreter or on a GPU."""

from __future__ import annotations

import math
from unittest.mock import patch

import torch

from dse.optim import AdamW, adam, adam_kernel
from tests.techniques.stacked import LAYOUT, hyper, members, same

SEED = 7


def main(device: str) -> None:
    """Steps of five members, one at rest, one with special values in its gradient."""
    optimizer, start = AdamW(), members(5, SEED).to(device)
    active = torch.tensor([[True], [False], [True], [True], [True]], device=device)
    results = []
    for use in (False, True):
        p = start.clone()
        state = optimizer.state(p, LAYOUT)
        with patch.object(adam, "fusible", lambda *_, use=use: use), patch.object(adam_kernel, "BLOCK", 128):
            for step in range(6):
                g = members(5, SEED + 1 + step).to(device) * 10.0 ** (2 * step - 8)
                g[1], g[2, :4] = math.nan, torch.tensor([math.inf, -0.0, 1e-45, 3e38])
                now = type(hyper(5, step))(*(number.to(device) for number in hyper(5, step)))
                optimizer.update(p, g, state, now, LAYOUT, active if step else active | True)
        results.append([p, *state.values()])
    for plain, kernel in zip(*results, strict=True):
        one, other = (torch.where(t.isnan(), math.nan, t).cpu() for t in (plain, kernel))  # one kind of NaN
        assert same(one, other), (one - other).abs().max()
    assert not same(results[0][0].cpu(), start.cpu())
    print("bit-equal")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main("cuda" if torch.cuda.is_available() else "cpu")
