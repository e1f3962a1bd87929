"""The flat buffer of a pack: where parameters lie, what is computed per parameter, clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dse.optim.layout import ALIGN, Layout, clip
from tests.techniques.stacked import LAYOUT, SHAPES, members, normal, same

SEED = 41


def test_parameters_lie_aligned_and_in_the_model_s_order() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 40, bias=False))
    layout = Layout.of(model.named_parameters())
    assert layout.names == tuple(name for name, _ in model.named_parameters())
    assert layout.offsets == (0, 32, 64, 96, 128)
    assert layout.size == 128 + 128
    assert layout == Layout.of(model.named_parameters())
    assert hash(layout) == hash(Layout.of(model.named_parameters()))
    assert all(offset % ALIGN == 0 for offset in (*LAYOUT.offsets, LAYOUT.size))


def test_views_share_memory_and_join_takes_them_back() -> None:
    flat = members(4, SEED)
    views = LAYOUT.views(flat)
    assert {name: tuple(view.shape[1:]) for name, view in views.items()} == SHAPES
    assert same(LAYOUT.join(list(views.values())), flat)
    out = torch.full_like(flat, math.nan)
    assert LAYOUT.join(list(views.values()), out) is out
    assert same(out, flat)
    views["scale"][2] = 5.0
    assert flat[2, LAYOUT.offsets[2]] == 5.0
    assert int((flat != 0).sum()) == 4 * sum(math.prod(shape) for shape in SHAPES.values())  # zeros in the padding


def test_gradients_of_views_reach_the_flat_buffer() -> None:
    flat = members(3, SEED)
    views = {name: view.requires_grad_() for name, view in LAYOUT.views(flat).items()}
    loss = sum(view.square().sum() / 2 for view in views.values())
    assert isinstance(loss, Tensor)
    assert same(LAYOUT.join(torch.autograd.grad(loss, list(views.values()))), flat)


def test_numbers_per_parameter() -> None:
    flat = members(3, SEED)
    flat[1, 4], flat[2, LAYOUT.offsets[3]] = math.nan, -math.inf
    norms, peaks = LAYOUT.norms(flat), LAYOUT.peaks(flat)
    for i, view in enumerate(LAYOUT.views(flat).values()):
        for e in range(3):
            torch.testing.assert_close(norms[e, i], view[e].norm(), equal_nan=True)
            assert same(peaks[e, i], view[e].abs().amax())
    assert norms.isnan().sum() == peaks.isnan().sum() == 1
    for row in zip(*(LAYOUT.rows(LAYOUT.spread(x)) for x in (norms, peaks)), range(len(SHAPES)), strict=True):
        assert same(row[0], norms[:, row[2], None].expand_as(row[0]).contiguous())
        assert same(row[1].contiguous(), peaks[:, row[2], None].expand_as(row[1]).contiguous())


@pytest.mark.parametrize("size", [1, 3, 31, 64, 65, 1000, 4097, 70001])
def test_a_member_s_norms_are_the_same_in_any_pack(size: int) -> None:
    layout = Layout.of([("a", torch.empty(size)), ("b", torch.empty(5, 3))])
    flat = normal(7, layout.size, seed=SEED)
    whole = layout.norms(flat)
    for i in range(7):
        assert same(layout.norms(flat[i : i + 1].clone()), whole[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_is_torch_s_for_each_member(dtype: torch.dtype) -> None:
    g = members(7, SEED, dtype) * torch.tensor([1, 100, 1e-6, 1, 1, 1, 1], dtype=dtype)[:, None]
    g[4, 3], g[5, 40] = math.nan, math.inf
    limit = torch.tensor([1.0, 5.0, 1.0, 0.0, 1.0, 1.0, 1e9], dtype=torch.float64)[:, None]
    clipped = g.clone()
    clip(clipped, limit, LAYOUT.norms(clipped))
    for e, bound in enumerate(limit[:, 0].tolist()):
        parts = [nn.Parameter(view[e].clone()) for view in LAYOUT.views(g).values()]
        for p in parts:
            p.grad = p.detach().clone()
        if bound > 0:
            nn.utils.clip_grad_norm_(parts, bound)
        for view, p in zip(LAYOUT.views(clipped).values(), parts, strict=True):
            torch.testing.assert_close(view[e], p.grad, equal_nan=True)
        alone = g[e : e + 1].clone()
        clip(alone, limit[e : e + 1], LAYOUT.norms(alone))
        assert same(alone, clipped[e : e + 1])
    assert same(clipped[3], g[3])
    assert same(clipped[6], g[6])
