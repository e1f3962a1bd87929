"""Deployed models for times: the layers of known architectures, each a YAML file of this folder.

``deployed("llama3-8b")`` is one that comes with the package, ``deployed("my.yaml")`` a user's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dse.cost.described import find, names_in
from dse.cost.models.model import BlockKind, CoreShape, Deployed, Linear
from dse.cost.models.placed import Placed, placed

_FOLDER = Path(__file__).parent
DEPLOYED = tuple(names_in(_FOLDER))
"""Names of the models that come with the package."""


@cache
def deployed(name: str) -> Deployed:
    """A model by name, or from a .yaml file. Raises UserError for an unknown name or a wrong file."""
    return find(name, _FOLDER, Deployed, "model")


__all__ = ["DEPLOYED", "BlockKind", "CoreShape", "Deployed", "Linear", "Placed", "deployed", "placed"]
