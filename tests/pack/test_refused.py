"""A task's model with layers that packs do not quantize is refused by name, unless the task exempts them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from dse.errors import UserError
from dse.pack.grouping import layer_recipes
from dse.recipes import RECIPES


@pytest.mark.parametrize("odd", [lambda: nn.LSTM(4, 4), lambda: nn.Conv1d(4, 4, 1)])
def test_a_pack_refuses_what_it_would_leave_alone(odd: Any) -> None:
    model = nn.ModuleDict({"odd": odd(), "fc": nn.Linear(4, 4)})
    for exempt in ((), ("odd",)):
        task = SimpleNamespace(exempt=lambda e=exempt: e)
        trials = cast(Any, [SimpleNamespace(task=task, recipe=RECIPES["nvfp4"])])
        if exempt:
            assert [layer for layer, _ in layer_recipes(trials, model).items()] == [model["fc"]]
            continue
        with pytest.raises(UserError, match=r"1 layer of ModuleDict .* odd .*in the task's exempt\(\): \['odd'\]"):
            layer_recipes(trials, model)
