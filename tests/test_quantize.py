"""``quantize_`` leaves everything of a model as it was, except how its linears compute."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from dse.errors import UserError
from dse.nn.linear import QuantizedLinear
from dse.nn.quantize import quantize_, set_clock
from dse.numerics.recipe import override
from dse.recipes import RECIPES
from tests.quantizers import normal

RECIPE = RECIPES["nvfp4"]


class Net(nn.Module):
    """Linears at several depths, one reachable by two names, and two that share a weight (where ``tied``)."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(10, 16)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(2))
        self.norm = nn.LayerNorm(16)
        self.again = self.blocks[0][0]
        self.twin = nn.Linear(16, 32)
        if tied:
            self.twin.weight = self.blocks[1][0].weight
        self.head = nn.Linear(16, 10, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + block(self.norm(x))
        x = x + self.blocks[0][2](torch.relu(self.again(x) + self.twin(x)))
        return self.head(x)  # type: ignore[no-any-return]


TOKENS = torch.arange(24).view(4, 6) % 10


def layers(model: nn.Module) -> dict[str, int]:
    return {name: m.layer for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}


def test_all_linears_become_quantized_and_nothing_else() -> None:
    model = Net()
    assert quantize_(model, RECIPE) is model
    assert not any(type(m) is nn.Linear for m in model.modules())
    assert isinstance(model.norm, nn.LayerNorm)
    assert layers(model) == {"blocks.0.0": 0, "blocks.0.2": 1, "blocks.1.0": 2, "blocks.1.2": 3, "twin": 4, "head": 5}
    assert model(TOKENS).shape == (4, 6, 10)


def test_parameters_are_the_same_objects_under_the_same_names() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, keys = dict(model.named_parameters()), list(model.state_dict())
    quantize_(model, RECIPE)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is p for name, p in before.items())
    assert list(model.state_dict()) == keys  # the clock is no part of a checkpoint
    head = model.head.weight.clone()
    model(TOKENS).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.head.weight, head)


def test_shared_modules_and_shared_weights_stay_shared() -> None:
    model = quantize_(Net(), RECIPE)
    assert model.again is model.blocks[0][0]
    assert model.twin is not model.blocks[1][0]
    assert model.twin.weight is model.blocks[1][0].weight
    model(TOKENS).sum().backward()
    assert model.twin.weight.grad is not None


def test_where_and_exempt_choose_layers_without_moving_the_others_streams() -> None:
    """Exempting one layer must not change the random numbers of the rest."""
    everything = layers(quantize_(Net(), RECIPE))
    some = quantize_(Net(), RECIPE, exempt=("head", "blocks.1.*"))
    assert isinstance(some.head, nn.Linear)
    assert layers(some) == {"blocks.0.0": 0, "blocks.0.2": 1, "twin": 4}
    wide = quantize_(Net(), RECIPE, where=lambda name, linear: linear.out_features == 32)
    assert layers(wide) == {k: everything[k] for k in ("blocks.0.0", "blocks.1.0", "twin")}


def test_a_layer_exempt_by_one_of_its_names_is_exempt() -> None:
    model = quantize_(Net(), RECIPE, exempt=("blocks.0.*",))
    assert model.again is model.blocks[0][0]
    assert isinstance(model.again, nn.Linear)


def test_two_recipes_in_one_model() -> None:
    model = quantize_(Net(), RECIPES["mxfp8"], where=lambda name, _: name == "head")
    quantize_(model, RECIPE)
    assert model.head.recipe is RECIPES["mxfp8"]
    assert model.twin.recipe is RECIPE


def test_the_clock_reaches_every_layer() -> None:
    model = quantize_(Net(), RECIPE)
    set_clock(model, 2**40, 17)
    assert all(m.clock.tolist() == [2**40, 17] for m in model.modules() if isinstance(m, QuantizedLinear))


def test_results_repeat_and_depend_on_seed_and_step() -> None:
    model = quantize_(Net(), RECIPES["mxfp4_rht_sr"])

    def gradient(seed: int, step: int) -> torch.Tensor:
        model.zero_grad()
        set_clock(model, seed, step)
        model(TOKENS).square().mean().backward()
        return model.blocks[0][0].weight.grad.clone()

    first = gradient(1, 2)
    assert torch.equal(first, gradient(1, 2))
    assert not torch.equal(first, gradient(1, 3))
    assert not torch.equal(first, gradient(2, 2))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_model_can_be_copied_pickled_and_saved(name: str) -> None:
    tied = RECIPES[name].weights is None  # a weight rule acts on one layer's weight
    model = quantize_(Net(tied), RECIPES[name])
    set_clock(model, 3, 4)
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    y = model(TOKENS)
    for other in copies:
        assert torch.equal(other(TOKENS), y)
        assert other.head.recipe == model.head.recipe
        assert other.again is other.blocks[0][0]
        other.head.weight.data.zero_()
    set_clock(model, 3, 4)
    assert torch.equal(model(TOKENS), y)  # copies do not share storage
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    saved = torch.load(file)
    resumed = quantize_(Net(tied), RECIPES[name])
    for p in resumed.parameters():
        p.data.zero_()
    resumed.load_state_dict(saved)
    set_clock(resumed, 3, 4)
    assert torch.equal(resumed(TOKENS), y)  # with all that the numerics remember
    fresh = Net(tied)
    extra = fresh.load_state_dict(saved, strict=False)  # into a plain model, and back
    assert not extra.missing_keys
    numerics = ("memory", "watch", "phase_index", "rule_", "parts_")
    assert all(key.rsplit(".", 1)[1].startswith(numerics) for key in extra.unexpected_keys)
    assert torch.equal(quantize_(fresh, RECIPES[name])(TOKENS).isfinite(), y.isfinite())


def test_the_identity_recipe_changes_nothing() -> None:
    torch.testing.assert_close(quantize_(Net(), RECIPES["fp32"])(TOKENS), Net()(TOKENS), rtol=1e-6, atol=1e-6)


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"no layer to quantize, such as nn\.Linear"):
        quantize_(nn.Sequential(nn.ReLU()), RECIPE)
    with pytest.raises(UserError, match="wrap"):
        quantize_(nn.Linear(4, 4), RECIPE)
    ruled = override(RECIPE, "weights", "q_ema")
    with pytest.raises(UserError, match="two linears share one weight"):
        quantize_(Net(), ruled)
    assert layers(quantize_(Net(), ruled, exempt=("twin",)))  # an exempt layer may share its weight


def test_a_layer_says_what_it_is() -> None:
    model = quantize_(nn.Sequential(nn.Linear(64, 32)), RECIPE)
    assert str(model[0]) == "QuantizedLinear(in_features=64, out_features=32, bias=True, recipe='nvfp4')"
    assert model.to(torch.float64)(normal(2, 64).double()).dtype == torch.float64
