"""Members of a pack under one optimizer: independent of each other, frozen where they rest, no waiting for a device."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dse.optim import OPTIMIZERS, SGD, AdamW, Hyper, Optimizer, StableSpam, make_optimizer
from tests.interpreted import interpreted
from tests.techniques.stacked import LAYOUT, gradients, hyper, members, rows, same, train

SEED = 20263
STORED = {
    "fp8": make_optimizer("adamw", "fp8", "fp16"),
    "mxfp8": make_optimizer("stable_spam", "mxfp8", "nvfp4_sqrt"),
    "fp4": make_optimizer("muon", "nvfp4", "nvfp4_hadamard"),
}
ALL = [AdamW(), SGD(), StableSpam(), StableSpam(reset=3), StableSpam(reset=3, shared_count=True)]
ALL += [OPTIMIZERS["muon"], *STORED.values()]
each = pytest.mark.parametrize(
    "optimizer", ALL, ids=["adamw", "sgd", "spam", "reset", "shared", "muon", *(f"stored-{name}" for name in STORED)]
)


@each
def test_a_member_of_a_pack_is_its_solo_run(optimizer: Optimizer) -> None:
    """Bit for bit, at every place in a pack of seven and with masks that make the pack take the masked route."""
    start, given = members(7, SEED), gradients(SEED, 8, 7)
    active = torch.ones(8, 7, dtype=torch.bool)
    active[2, 3] = active[5, 0] = False
    for mask in (None, active):
        whole, state = train(optimizer, start, given, mask)
        for i in range(7):
            if mask is not None and not bool(mask[:, i].all()):
                continue
            p = start[i : i + 1].clone()
            own = optimizer.state(p, LAYOUT)
            for step, g in enumerate(given):
                mine = Hyper(*(t[i : i + 1] if t.ndim else t for t in hyper(7, step)))
                optimizer.update(p, g[i : i + 1], own, mine, LAYOUT, torch.ones(1, 1, dtype=torch.bool))
            assert same(p, whole[i : i + 1])
            assert all(same(own[k], v) for k, v in rows(state, i).items())


@pytest.mark.parametrize("optimizer", [AdamW(), SGD()], ids=["adamw", "sgd"])
def test_the_cpu_s_tiles_leave_no_trace(optimizer: Optimizer) -> None:
    """A buffer of many columns, which the CPU takes in pieces whose width depends on the number of members."""
    p, g = members(140, SEED).view(7, -1), members(140, SEED + 1).view(7, -1)
    p, g = p.repeat(1, 10), g.repeat(1, 10)
    whole, on = p.clone(), torch.ones(7, 1, dtype=torch.bool)
    state = optimizer.state(p, LAYOUT)
    optimizer.update(whole, g, state, hyper(7, 0), LAYOUT, on)
    for i in range(7):
        own, mine = p[i : i + 1].clone(), Hyper(*(t[i : i + 1] if t.ndim else t for t in hyper(7, 0)))
        optimizer.update(own, g[i : i + 1], optimizer.state(own, LAYOUT), mine, LAYOUT, on[:1])
        assert same(own, whole[i : i + 1])


def test_the_fused_kernel_is_the_reference_bit_for_bit() -> None:
    """In Triton's interpreter, which has to be chosen before triton is imported."""
    pytest.importorskip("triton")
    interpreted(str(Path(__file__).with_name("fused_adam.py")))


@each
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_member_that_diverges_touches_nobody(optimizer: Optimizer, value: float) -> None:
    start, given = members(5, SEED), gradients(SEED, 6, 5)
    expected, state = train(optimizer, start, given)
    given[2][3] = value
    given[3][3, 5] = -value
    got, other = train(optimizer, start, given)
    for i in (0, 1, 2, 4):
        assert same(got[i], expected[i])
        assert all(same(v, rows(state, i)[k]) for k, v in rows(other, i).items())
    assert not got[3].isfinite().all()


@each
def test_members_at_rest_keep_every_bit(optimizer: Optimizer) -> None:
    """Negative zeros, infinities and NaN in parameters, state and gradients included; so does the first step."""
    p, given = members(4, SEED), gradients(SEED, 4, 4)
    p[2, :4] = torch.tensor([-0.0, math.nan, -math.inf, 1e-45])
    state = optimizer.state(p, LAYOUT)
    for step, g in enumerate(given):
        active = torch.tensor([[True], [step != 0], [step == 1], [False]])
        if step >= 2:
            g[2, 7], g[3] = math.inf, math.nan
            for k in state:
                if state[k].is_floating_point():
                    state[k][2, 0], state[k][3, 1] = math.inf, -0.0
        kept, before = p.clone(), {k: v.clone() for k, v in state.items()}
        optimizer.update(p, g, state, hyper(4, step), LAYOUT, active)
        for i in range(4):
            assert same(p[i], kept[i]) != bool(active[i])
            assert all(same(v, rows(before, i)[k]) for k, v in rows(state, i).items()) != bool(active[i])


@each
def test_a_step_at_rest_does_not_count(optimizer: Optimizer) -> None:
    start, given = members(3, SEED), gradients(SEED, 9, 3)
    active = torch.ones(9, 3, dtype=torch.bool)
    active[0, 1] = active[4, 1] = active[5, 1] = False
    got, state = train(optimizer, start, given, active)
    short, other = train(optimizer, start, [g for n, g in enumerate(given) if active[n, 1]])
    assert same(got[1], short[1])
    assert all(same(v, rows(other, 1)[k]) for k, v in rows(state, 1).items())


@each
def test_padding_stays_zero(optimizer: Optimizer) -> None:
    p, _ = train(optimizer, members(2, SEED), gradients(SEED, 5, 2))
    assert same(LAYOUT.join(list(LAYOUT.views(p).values())), p)


@each
def test_nothing_waits_for_a_device(optimizer: Optimizer) -> None:
    """Meta tensors have no values: reading one, as a synchronization would, raises."""
    p = torch.empty(3, LAYOUT.size, device="meta")
    state = optimizer.state(p, LAYOUT)
    shapes = {k: v.shape for k, v in state.items()}
    assert all(v.is_meta and len(v) == 3 for v in state.values())
    numbers = Hyper(*(number.to("meta") for number in hyper(3, 0)))
    active = torch.empty(3, 1, dtype=torch.bool, device="meta")
    optimizer.update(p, torch.empty_like(p), state, numbers, LAYOUT, active)
    assert {k: v.shape for k, v in state.items()} == shapes
