"""A member's product is the very call that it is alone: equal shapes, strides and addresses modulo 64."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dse.kernels.alignment import ALIGNMENT, aligned, apart, product, products
from dse.numerics.matmul import product as transposed
from dse.numerics.techniques.accumulations import Groups

SIZES = (1, 2, 3, 5, 8, 10, 16, 33, 64, 128)


class Calls(TorchDispatchMode):
    """Shapes, strides and addresses modulo 64 of every library product."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            self.seen.append((func, *(look(t) for t in (*args, y))))
        assert "mm" not in str(func) or func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default), func
        return y


def look(x: Tensor) -> tuple[Any, ...]:
    return tuple(x.shape), x.stride(), x.data_ptr() % ALIGNMENT


def misplaced(x: Tensor, floats: int, turned: bool) -> Tensor:
    """x [..., R, C], so many elements away from an aligned address, each matrix transposed in memory or not."""
    y = x.mT if turned else x
    room = torch.empty(y.numel() + floats, dtype=x.dtype)[floats:].view(y.shape).copy_(y)
    return room.mT if turned else room


def calls(function: Callable[..., Tensor], *operands: Tensor) -> tuple[Tensor, list[tuple[Any, ...]]]:
    with Calls() as mode:
        y = function(*operands)
    return y, mode.seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_member_s_product_is_the_call_alone(dtype: torch.dtype) -> None:
    """Over random shapes, places, widths and layouts; the same bits follow, on whatever machine this runs."""
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    generator = random.Random(seed)
    torch.manual_seed(seed)
    for _ in range(70):
        m, n, k = generator.choices(SIZES, k=3)
        members, batch = generator.choice((2, 3, 7)), generator.choice(((), (), (1,), (3,)))
        a, b = torch.randn(members, *batch, m, k, dtype=dtype), torch.randn(members, *batch, k, n, dtype=dtype)
        whole, together = calls(
            products,
            misplaced(a, generator.randrange(9), generator.random() < 0.5),
            misplaced(b, generator.randrange(9), generator.random() < 0.5),
        )
        assert len(together) == members
        for i in range(members):
            x = misplaced(a[i : i + 1], generator.randrange(9), together[i][1][1] != strides(a[i].shape))
            y = misplaced(b[i : i + 1], generator.randrange(9), together[i][2][1] != strides(b[i].shape))
            alone, own = calls(products, x, y)
            assert own == [together[i]], (m, n, k)
            assert torch.equal(alone[0], whole[i]), (m, n, k)
            assert torch.equal(product(x[0], y[0]), whole[i])


def strides(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape).stride()


@pytest.mark.parametrize("function", [transposed, Groups(16).product, Groups(16, "nearest_even").product])
def test_what_layers_call(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """a b^T, in groups of float64 or not, [.., M, K] x [.., N, K]: a member in any stack, and a plain matrix."""
    torch.manual_seed(3)
    for m, n, k in ((1, 10, 128), (33, 5, 33), (198, 6, 5), (64, 1, 64), (5, 4, 1)):
        a, b = torch.randn(5, m, k), torch.randn(5, n, k)
        whole = function(misplaced(a, 3, False), misplaced(b, 1, True))
        for i in range(5):
            one = misplaced(a[i], 2, False), misplaced(b[i], 5, True)
            assert torch.equal(function(*one), whole[i]), (m, n, k)
            assert torch.equal(function(*(x[None] for x in one))[0], whole[i]), (m, n, k)


def test_layouts() -> None:
    x = torch.randn(4, 6, 8)
    assert aligned(x).data_ptr() == x.data_ptr()
    assert aligned(x.mT).stride() == x.mT.stride()
    for view in (
        x[1:],
        x[:, 1:],
        x[..., 2:],
        x.mT[..., 3:],
        x[1],
        x[::2],
        x.permute(1, 0, 2),
        x[:, :1],
        x.expand(2, 4, 6, 8),
    ):
        y = aligned(view)
        assert torch.equal(y, view)
        assert y.data_ptr() % ALIGNMENT == 0
        assert strides(y.shape) == y.stride() or strides(y.mT.shape) == y.mT.stride()
    odd = torch.randn(6, 4).as_strided((1, 4), (7, 1))
    assert aligned(odd).stride() == (4, 1)
    assert [look(one) for one in apart(x.mT)] == [((8, 6), (6, 1), 0)] * 4


def test_no_members_and_no_numbers() -> None:
    assert products(torch.ones(0, 2, 3), torch.ones(0, 3, 4)).shape == (0, 2, 4)
    assert product(torch.ones(2, 0), torch.ones(0, 4)).equal(torch.zeros(2, 4))


def test_without_an_address() -> None:
    """Under transforms and on other devices operands are taken as they are."""
    a, b = torch.randn(3, 5, 4), torch.randn(3, 4, 2)
    torch.testing.assert_close(torch.vmap(product)(a, b), a @ b)
    torch.testing.assert_close(torch.func.grad(lambda a: product(a, b[0]).sum())(a[0]), b[0].sum(-1).expand(5, 4))
    assert product(a[0].to("meta"), b[0].to("meta")).shape == (5, 2)
