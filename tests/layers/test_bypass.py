"""Nothing multiplies by a quantized layer's weight but the layer; and ``bypassed`` sees it when something does."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dse.errors import UserError
from dse.nn.bypass import bypassed
from dse.nn.coverage import coverage
from dse.nn.quantize import quantize_, set_clock
from dse.recipes import RECIPES
from tests.layers.zoo import ZOO, Subject
from tests.quantizers import normal


@pytest.mark.parametrize("subject", ZOO.values(), ids=ZOO.keys())
def test_no_kind_of_layer_is_bypassed(subject: Subject) -> None:
    for training in (True, False):
        model = quantize_(nn.Sequential(subject.make()), RECIPES["nvfp4"]).train(training)
        layer: Any = model[0]  # type: ignore[index]
        model.forward = lambda *x, m=layer: subject.call(m, *x)  # type: ignore[method-assign]
        with torch.set_grad_enabled(training):
            assert bypassed(model, *subject.inputs()) == {}


class Tied(nn.Module):
    """A head that calls the embedding's weight, which a linear shares; and one that multiplies by a cast."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(self.first(x), self.head.weight)
        return y.double() @ self.last.weight.double().T


class Hidden(Tied):
    """Reads the weights where their names do not say so."""

    def forward(self, x: Tensor) -> Tensor:
        weights = [layer.weight for layer in self.children()]
        return F.linear(self.first(x), weights[1]).double() @ weights[2].double().T


class Both(Tied):
    """Calls a layer, or reads its weight; its dtype is nobody's concern."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.to(self.first.weight.dtype))
        return self.last(self.head(x) if self.training else x @ self.head.weight)


def test_a_layer_that_is_read_and_not_called_is_found() -> None:
    """By what is computed."""
    model = quantize_(Hidden(), RECIPES["nvfp4"])
    found = bypassed(model, normal(3, 16))
    assert found.keys() == {"head", "last"}
    assert found["last"] == "mm"


def test_a_layer_whose_weight_is_read_in_the_source_is_refused() -> None:
    model = nn.ModuleDict({"a": Tied(), "b": Tied()})
    with pytest.raises(
        UserError, match=r"4 layers .* a\.head \(Linear: Tied\.forward reads its weight instead of calling"
    ):
        quantize_(model, RECIPES["nvfp4"])
    quantize_(model, RECIPES["nvfp4"], unsupported="leave")
    assert [row.name for row in coverage(model).quantized] == ["a.first", "b.first"]
    assert coverage(model).left[0].why == "Tied.forward reads its weight instead of calling it"
    assert bypassed(model["a"], normal(3, 16)) == {}
    quantize_(Tied(), RECIPES["nvfp4"], exempt=["head", "last"])
    with pytest.warns(UserWarning, match=r"in places their weights are read: head \(Both\.forward\)"):
        both = quantize_(Both(), RECIPES["nvfp4"])
    assert bypassed(both, normal(3, 16)) == {}
    assert bypassed(both.eval(), normal(3, 16)).keys() == {"head"}


def encoder(**options: Any) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options)


@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"activation": "gelu"}], ids=str)
@pytest.mark.parametrize("exempt", [(), ("*.self_attn",), ("*.linear*",)], ids=str)
def test_an_encoder_evaluates_through_its_quantized_layers(options: dict[str, Any], exempt: tuple[str, ...]) -> None:
    """torch's fused path reads the weights, and with a padding mask takes nested tensors; neither may happen."""
    plain, x = encoder(**options), normal(2, 5, 32)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    model = quantize_(copy.deepcopy(plain), RECIPES["mxfp4"], exempt=exempt)
    for m in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for mask in (None, padding):
            set_clock(m, 0, 0)
            trained = m.train()(x, src_key_padding_mask=mask)
            with torch.no_grad():
                evaluated = m.eval()(x, src_key_padding_mask=mask)
                assert bypassed(m, x, src_key_padding_mask=mask) == {}
            kept = slice(None) if mask is None else ~mask
            torch.testing.assert_close(evaluated[kept], trained[kept], rtol=1e-6, atol=1e-6)
            assert not torch.allclose(evaluated[kept], plain.eval()(x, src_key_padding_mask=mask)[kept], atol=1e-3)


def test_the_fused_path_is_left_to_encoders_without_quantized_layers() -> None:
    pair = nn.ModuleList([encoder(), encoder()])
    quantize_(pair, RECIPES["mxfp4"], exempt=("1.*",))
    assert [m.layers[0].activation_relu_or_gelu for m in pair] == [0, 1]  # type: ignore[union-attr, index]
    assert [m.use_nested_tensor for m in pair] == [False, True]


def test_a_layer_of_an_encoder_quantized_alone() -> None:
    """Attention itself says no to the fused path of the layer around it, of which nothing is known."""
    model = encoder().eval()
    holder = nn.ModuleDict({"attention": model.layers[0].self_attn})  # type: ignore[dict-item]
    model.layers[0].self_attn = quantize_(holder, RECIPES["mxfp4"])["attention"]  # type: ignore[index]
    with torch.no_grad():
        assert bypassed(model, normal(2, 5, 32)) == {}
