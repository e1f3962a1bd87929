"""Layers of a task's model that a pack would not train as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn
from torch.nn.utils import parametrizations, prune

from dse.errors import UserError
from dse.pack.linear import packed

SPOILED: dict[str, Callable[[nn.Module], object]] = {
    "prune": lambda m: prune.l1_unstructured(m, "weight", amount=0.5),
    "parametrize": parametrizations.weight_norm,
    "hook": lambda m: m.register_forward_hook(lambda *_: None),
    "backward hook": lambda m: m.register_full_backward_hook(lambda *_: None),
}


@pytest.mark.parametrize("name", sorted(SPOILED))
def test_hooks_and_computed_weights_are_refused(name: str) -> None:
    for layer in (nn.Linear(4, 3), nn.Conv2d(2, 3, 1)):
        packed(layer)
        SPOILED[name](layer)
        with pytest.raises(UserError, match="which packs leave out"):
            packed(layer)
