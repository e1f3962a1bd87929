"""The bounds of a SwiGLU's factors: values and derivatives against NumPy, and an option of the task `lm`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call, vmap

from dse.errors import UserError
from dse.recipes import RECIPES
from dse.tasks.nets.transformer import SwiGLU
from dse.train.loop import run_trial
from dse.trial import Trial, make_task

SEED, LIMIT = 4, 1.5


def layer(limit: float) -> SwiGLU:
    torch.manual_seed(SEED)
    return SwiGLU(6, 10, limit).double()


def by_hand(own: SwiGLU, x: np.ndarray) -> np.ndarray:
    gate, up, down = (w.weight.detach().numpy() for w in (own.gate, own.up, own.down))
    a, b = np.minimum(x @ gate.T, LIMIT), np.clip(x @ up.T, -LIMIT, LIMIT)
    return np.asarray((a / (1 + np.exp(-a)) * b) @ down.T)


def test_values_and_derivatives_against_numpy() -> None:
    own = layer(LIMIT)
    x = 6 * torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED))
    x.requires_grad_()
    a, b = own.gate(x), own.up(x)
    assert min(int((a > LIMIT).sum()), int((b > LIMIT).sum()), int((b < -LIMIT).sum())) > 20, "all bounds act"
    assert int((a < -LIMIT).sum()) > 20, "the gate has none below"
    y = own(x)
    np.testing.assert_allclose(y.detach().numpy(), by_hand(own, x.detach().numpy()), rtol=1e-12, atol=1e-13)
    g = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(SEED + 1))
    (found,) = torch.autograd.grad((y * g).sum(), x)
    step, at = 1e-6, x.detach().numpy()
    for k in range(6):
        nudge = step * np.eye(6)[k]
        slope = (by_hand(own, at + nudge) - by_hand(own, at - nudge)) / (2 * step)
        smooth = np.ones(len(at), dtype=bool)  # rows that no kink lies in
        for factor, bounds in ((a, (LIMIT,)), (b, (LIMIT, -LIMIT))):
            for bound in bounds:
                smooth &= ((factor.detach().numpy() - bound).__abs__() > 1e-4).all(-1)
        assert smooth.sum() > 30
        expected = (slope * g.numpy()).sum(-1)
        np.testing.assert_allclose(found[:, k].numpy()[smooth], expected[smooth], rtol=1e-6, atol=1e-8)


def test_without_a_bound_it_is_the_plain_layer_and_a_member_of_a_pack_is_the_layer_alone() -> None:
    x = torch.randn(3, 7, 6)
    plain, wide = layer(0.0).float(), layer(1e6).float()
    assert torch.equal(plain(x), wide(x))
    own = layer(LIMIT).float()
    weights = {name: torch.stack([p.detach()] * 3) for name, p in own.named_parameters()}
    together = vmap(lambda w, x: functional_call(own, w, x))(weights, x)
    torch.testing.assert_close(together, torch.stack([own(one) for one in x]), rtol=1e-6, atol=1e-6)


def test_the_option_of_lm() -> None:
    task = make_task("lm", {"swiglu_limit": 0.01})
    training = type(task.training())(steps=1, batch=2, lr=1e-3)
    tight, plain = (Trial(t, training, RECIPES["bf16"], 0) for t in (task, make_task("lm", {})))
    assert tight.uid != plain.uid
    assert "swiglu_limit" not in plain.spec["options"]
    assert run_trial(tight).metric_initial != run_trial(plain).metric_initial
    with pytest.raises(UserError, match=r"swiglu_limit is 10\.0, but size 'nanogpt-cpu' is another net"):
        make_task("lm", {"swiglu_limit": 10.0, "size": "nanogpt-cpu"})
    with pytest.raises(UserError, match="swiglu_limit is -1; valid: at least 0"):
        make_task("lm", {"swiglu_limit": -1})
