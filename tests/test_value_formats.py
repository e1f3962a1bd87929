"""Element formats given by their values: rounding by the definition, E2M1 as a list, YAML, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dse import RECIPES, override
from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, SCALES
from dse.numerics.grid import round_to_grid
from dse.numerics.registry import to_data
from dse.numerics.techniques.rounding import ROUNDINGS, NearestEven, Stochastic
from dse.numerics.techniques.slopes import DGE, Sigmoid, Spline
from dse.numerics.validate import check
from dse.numerics.value_formats import cuts, round_to_values, value_format
from tests.kernels.cases import NF4

LIST = value_format([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def numbers() -> torch.Tensor:
    g = torch.Generator().manual_seed(7)
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 0.25, 0.75, 2.5, -3.5, 5.0, 6.0, -7.0, 1e-42])
    return torch.cat([special, 3 * torch.randn(2000, generator=g)])


@pytest.mark.parametrize("name", list(ROUNDINGS))
def test_e2m1_as_a_list(name: str) -> None:
    u, rounding = numbers(), ROUNDINGS[name]()
    bits = torch.randint(0, 256, u.shape, generator=torch.Generator().manual_seed(1))
    one, two = (round_to_grid(u, fmt, rounding, bits) for fmt in (LIST, E2M1))
    assert torch.equal(one.view(torch.int32), two.view(torch.int32))
    assert round_to_grid(torch.tensor([torch.nan]), LIST, rounding, bits[:1]).isnan().all()


@pytest.mark.parametrize("slope", [DGE(), Sigmoid(), Spline()])
def test_slopes_of_e2m1_as_a_list(slope: Any) -> None:
    torch.testing.assert_close(slope(numbers(), LIST), slope(numbers(), E2M1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("values", [NF4, [-1, 0, 0.3, 2, 7, 20], [0, 1]])
def test_nearest_is_nearest_and_stochastic_is_unbiased(values: list[float]) -> None:
    fmt, u = value_format(values), numbers()
    u = u[u.isfinite()]
    grid = torch.tensor(fmt.values, dtype=torch.float64)
    found = round_to_grid(u, fmt, NearestEven()).double()
    assert torch.isin(found, grid).all()
    best = (u.double()[:, None] - grid).abs().amin(1)
    torch.testing.assert_close((found - u.double()).abs(), best, rtol=1e-12, atol=1e-12)
    inside = u.clamp(min(fmt.values), max(fmt.values))[:200]
    every = torch.arange(256).expand(len(inside), -1)
    mean = round_to_grid(inside[:, None].expand(-1, 256), fmt, Stochastic(), every).double().mean(1)
    gap = grid.diff().max()
    assert ((mean - inside.double()).abs() <= gap / 256).all()


@pytest.mark.parametrize("name", [name for name in ROUNDINGS if ROUNDINGS[name]().random_bits == 0])
@pytest.mark.parametrize("values", [NF4, [-5.0, *LIST.values], [0, 1], [-1, 0, 0.3, 2, 7, 20], [0, 1e-30, 1, 1e20]])
def test_cuts_are_where_the_rounding_turns(values: list[float], name: str) -> None:
    """The float at a cut, and the ones beside it, in the reference's FP64."""
    fmt, rounding = value_format(sorted(values)), ROUNDINGS[name]()
    for sign, cut, half in zip((1, -1), cuts(fmt, rounding), fmt.halves, strict=True):
        at, magnitudes = torch.tensor(cut).view(torch.int32), torch.tensor(half).abs()
        m = torch.cat([(at + i).view(torch.float32) for i in (-2, -1, 0, 1)]).clamp(max=fmt.max)
        m = torch.cat([m, magnitudes, numbers().abs().clamp(max=fmt.max)])
        m = m[m > 0]
        places = (m[:, None] >= torch.tensor(cut)).sum(1)
        assert torch.equal(sign * magnitudes[places], round_to_values(sign * m, fmt, rounding, None))


def test_a_block_of_nf4() -> None:
    q = BlockQuantizer(value_format(NF4), SCALES["fp32"], 16)
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(3))
    values = q.dequantized(x)
    peak = x.unflatten(-1, (-1, 16)).abs().amax(-1, keepdim=True)
    shares = (values.unflatten(-1, (-1, 16)) / peak).flatten()
    known = torch.tensor(q.element.values)  # type: ignore[attr-defined]
    assert ((shares[:, None] - known).abs().amin(1) < 1e-6).all()


def test_yaml_and_back() -> None:
    recipe = override(RECIPES["nvfp4"], "X.element", {"values": [0, "0.5", 1, 1.5, 2, 3, 4, 6]})
    check(recipe)
    data = to_data(recipe.fprop.lhs)["block"]["element"]
    assert data == {"values": [0, 0.5, 1, 1.5, 2, 3, 4, 6]}
    assert override(RECIPES["nvfp4"], "X.element", data) == recipe
    data = to_data(override(recipe, "X.element", {"values": NF4}).fprop.lhs)["block"]["element"]
    assert data["values"] == pytest.approx(NF4)
    assert override(recipe, "X.element", data) == override(recipe, "X.element", {"values": NF4})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"values": [1, 2]}, "holds 0"), ({"values": [0, 2, 1]}, "increases"), ({"values": [-1, 0]}, "positive"),
        ({"values": [0, float("inf")]}, "finite"), ({"values": list(range(200))}, "at most 256"),
        ({"values": "e2m1"}, "write a list"), ({"value": [0, 1]}, "write a list"), ({"values": [0, "x"]}, "finite"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_values(data: dict[str, Any], word: str) -> None:
    with pytest.raises(OptionError, match=word):
        override(RECIPES["nvfp4"], "X.element", data)
