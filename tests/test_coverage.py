"""Which layers ``quantize_`` takes, leaves and refuses, and that nothing of it is silent."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dse.errors import UserError
from dse.nn.coverage import coverage
from dse.nn.quantize import quantize_, quantized_layers, set_clock
from dse.nn.select import OTHERS, choice, linears
from dse.numerics.recipe import Exempt, override
from dse.recipes import RECIPES
from tests.quantizers import normal

RECIPE = RECIPES["nvfp4"]


class Scaled(nn.Linear):
    """A subclass, which computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Raw(nn.Module):
    """Parameters that no layer holds."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape)))


def pruned() -> nn.Module:
    return nn.utils.prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)


REFUSED: dict[str, tuple[Any, str]] = {
    "lstm": (lambda: nn.LSTM(8, 8), "LSTM: torch computes it in one fused call"),
    "gru cell": (lambda: nn.GRUCell(8, 8), "GRUCell: torch computes it in one fused call"),
    "bilinear": (lambda: nn.Bilinear(4, 4, 4), "a product of three operands"),
    "lazy": (lambda: nn.LazyLinear(8), "LazyLinear: it has no weights yet: run one batch through the model first"),
    "lazy convolution": (lambda: nn.LazyConv2d(8, 3), "it has no weights yet"),
    "subclass": (lambda: Scaled(8, 8), "Scaled: a subclass of nn.Linear, which may compute something else"),
    "transposed 3-D": (lambda: nn.ConvTranspose3d(4, 4, 2), "in one and two dimensions"),
    "experts": (lambda: Raw(w1=(4, 8, 8)), "a layout of weights that is not known: w1 [4, 8, 8]"),
    "matrix": (lambda: Raw(weight=(8, 8)), "a layout of weights that is not known: weight [8, 8]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_quantized_is_refused_by_name(name: str) -> None:
    """In one line with the count, the share, why, and what to do; and the advice works."""
    make, why = REFUSED[name]
    blocks = nn.ModuleList(nn.ModuleDict({"odd": make(), "fc": nn.Linear(8, 8)}) for _ in range(2))
    model = nn.ModuleDict({"blocks": blocks})
    with pytest.raises(UserError) as error:
        quantize_(copy.deepcopy(model), RECIPE)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("2 layers of ModuleDict")
    assert why in text
    assert "blocks.*.odd (2 times)" in text
    assert "unsupported='leave'" in text
    found = re.search(r"exempt=(\[.*?\])", text)
    assert found is not None
    assert found[1] == "['blocks.*.odd']"
    for options in ({"exempt": ["blocks.*.odd"]}, {"exempt": "blocks.*.odd"}, {"unsupported": "leave"}):
        done = quantize_(copy.deepcopy(model), RECIPE, **options)  # type: ignore[arg-type]
        assert len(quantized_layers(done)) == 2
        left = [row for row in coverage(done).left if "fc" not in row.name]
        assert len(left) == 2
        assert why.partition(": ")[2] in left[0].why or why in left[0].why


def test_what_may_be_left_without_a_word_is_in_the_table() -> None:
    """Lookups, tables that are added, and norms."""
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(9, 8),
            "raw": Raw(position=(5, 8), cls=(1, 1, 8), position_embeddings=(1, 7, 8), scale=(8,), a_log=(8, 4)),
            "norm": nn.LayerNorm(8),
            "fc": nn.Linear(8, 8),
        }
    )
    quantize_(model, RECIPE)
    rows = {row.name: row for row in coverage(model).rows}
    assert rows.keys() == {"embed", "raw", "fc"}
    assert rows["embed"].why == "a lookup table, no GEMM"
    assert rows["raw"].why == "no weight of a layer, by its shape and name"
    assert coverage(model).weights == coverage(model).flops == 1


def test_a_lazy_layer_is_quantized_once_it_has_weights() -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 4))
    with pytest.raises(UserError, match="run one batch"):
        quantize_(model, RECIPE)
    model(normal(2, 6))
    assert len(quantized_layers(quantize_(model, RECIPE))) == 2


def net() -> nn.Module:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 1, groups=2), nn.Linear(8, 8)) for _ in range(2)]
    return nn.ModuleDict({"blocks": nn.ModuleList(blocks), "head": nn.Linear(8, 3)})


def test_shares_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    model = quantize_(net(), RECIPE, exempt=["head"], where=lambda name, _: name != "blocks.1.2", verbose=True)
    found = coverage(model)
    assert [(r.name, r.shape, r.weights, r.flops, r.recipe, r.why) for r in found.rows] == [
        ("blocks.0.0", "8 x 8", 64, 128, "nvfp4", ""),
        ("blocks.0.1", "4 x 4 and 1 more", 32, 64, "nvfp4", ""),
        ("blocks.0.2", "8 x 8", 64, 128, "nvfp4", ""),
        ("blocks.1.0", "8 x 8", 64, 128, "nvfp4", ""),
        ("blocks.1.1", "4 x 4 and 1 more", 32, 64, "nvfp4", ""),
        ("blocks.1.2", "8 x 8", 64, 128, "", "where"),
        ("head", "3 x 8", 24, 48, "", "exempt 'head'"),
    ]
    assert found.weights == found.flops == 256 / 344
    printed = capsys.readouterr().out
    assert printed == found.table() + "\n" == f"{found}\n"
    assert "\nblocks.*.*  QuantizedConv1d  4 x 4 and 1 more      2       64  nvfp4\n" in printed
    shares = "74.4% of matrix weights, 74.4% of GEMM FLOPs for each token (or pixel)"
    assert printed.endswith(f"5 of 7 layers quantized: {shares}\n")
    assert coverage(net()).weights == 0
    assert {row.why for row in coverage(net()).rows} == {"not quantized"}
    assert coverage(copy.deepcopy(model)) == found


def test_a_weight_of_two_layers_counts_once() -> None:
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "e": nn.Embedding(8, 8), "c": nn.Linear(8, 8)})
    model["b"].weight, model["c"].weight = model["a"].weight, model["e"].weight
    assert [row.weights for row in coverage(model).rows] == [64, 0, 64, 64]
    quantize_(model, RECIPE, exempt="c")
    assert coverage(model).weights == 1 / 2
    assert coverage(model).flops == 2 / 3


def test_numbers_of_random_streams_do_not_depend_on_other_kinds() -> None:
    """Linears count as if they were alone; the others follow far behind, a number for each GEMM."""
    model = net()
    alone = {name: i for i, name in enumerate(n for n, m in model.named_modules() if type(m) is nn.Linear)}
    assert {n: m.layer for n, m in quantize_(net(), RECIPE).named_modules() if n in alone} == alone
    assert list(linears(model).values()) == [0, 1, 2, 3, 4]
    numbers = list(choice(model, RECIPE).kept.values())
    assert numbers == [0, OTHERS, 1, 2, OTHERS + 2, 3, 4]


def test_a_second_call_takes_what_is_left_and_keeps_the_numbers() -> None:
    once, model = quantize_(net(), RECIPE), net()
    quantize_(model, RECIPES["mxfp4"], where=lambda name, _: name in ("blocks.0.0", "blocks.0.1"))
    quantize_(model, RECIPE)
    numbers = [layer.layer for layer in quantized_layers(once)]
    assert [layer.layer for layer in quantized_layers(model)] == numbers
    assert len(set(numbers)) == len(numbers)
    assert [row.recipe for row in coverage(model).rows] == ["mxfp4"] * 2 + ["nvfp4"] * 5
    with pytest.raises(UserError, match=r"ModuleDict is quantized already \(7 layers, recipe 'mxfp4'\)"):
        quantize_(model, RECIPE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exempt": ["haed"]}, "exempt='haed' matches no layer of ModuleDict; did you mean 'head'?"),
        ({"exempt": "haed"}, "exempt='haed' matches no layer"),
        ({"exempt": ["blocks.0"]}, "exempt='blocks.0' matches no layer of ModuleDict; its layers are 'blocks.0.*'"),
        ({"exempt": "*"}, "nothing of ModuleDict would be quantized: all 7 layers are left out (exempt '*')"),
        ({"where": lambda *_: False}, "all 7 layers are left out (where)"),
        ({"unsupported": "ignore"}, "unsupported must be 'raise' or 'leave', not 'ignore'"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], words: str) -> None:
    model = net()
    with pytest.raises(UserError) as error:
        quantize_(model, RECIPE, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not quantized_layers(model)


def test_a_model_that_is_itself_a_layer_or_has_none() -> None:
    for model in (nn.Linear(8, 8), nn.MultiheadAttention(8, 2)):
        with pytest.raises(UserError, match=r"wrap a single one in nn\.Sequential"):
            quantize_(model, RECIPE)
    for model in (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Embedding(4, 4))):
        with pytest.raises(UserError, match="Sequential has no layer to quantize"):
            quantize_(model, RECIPE)
    with pytest.raises(UserError, match=r"1 layer of Raw .* the model itself"):
        quantize_(Raw(w1=(2, 3, 4)), RECIPE)


def test_a_recipes_patterns_mind_no_case_and_its_counts_all_kinds() -> None:
    model = nn.ModuleDict({"SelfAttention": nn.Linear(8, 8), "CrossAttn": nn.Linear(8, 8), "mlp": nn.Linear(8, 8)})
    quantize_(model, RECIPES["zhou_modulewise"])
    assert [row.recipe for row in coverage(model).rows] == ["", "", "zhou_modulewise"]
    assert coverage(model).rows[0].why == "exempt by the recipe: '*attention*'"
    ends = override(RECIPE, "exempt", {"first": 2, "last": 1})
    assert [row.recipe for row in coverage(quantize_(net(), ends)).rows] == ["", "", *["nvfp4"] * 4, ""]
    assert Exempt(names=("*.FC1",)).covers(0, 9, "block.fc1")


def test_a_recipe_whose_layers_are_not_there_says_so() -> None:
    with pytest.warns(UserWarning, match="leaves out layers named .*attention.*, and ModuleDict has none"):
        quantize_(net(), RECIPES["zhou_modulewise"])


def test_what_is_quantized_trains() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose1d(8, 3, 3, padding=1))
    quantize_(model, RECIPES["mxfp8"])
    x, optimizer, losses = normal(4, 3, 12), torch.optim.Adam(model.parameters(), 1e-2), []
    for step in range(30):
        set_clock(model, 0, step)
        loss = (model(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_printed_remedy_names_layers_alone() -> None:
    """A numbered layer of the outermost sequence is no pattern "*", which would leave out all the others too."""
    with pytest.raises(UserError, match=r"exempt them with exempt=\['1'\], or"):
        quantize_(nn.Sequential(nn.Linear(16, 16), nn.LSTM(16, 16)), RECIPE)
    with pytest.raises(UserError, match=r"the model itself \(LSTM: [^;]*\)$"):
        quantize_(nn.LSTM(16, 16), RECIPE)
