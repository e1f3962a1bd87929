"""Places of a time: a deployed model on hardware, written 'llama3-8b on b200'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dse.errors import UserError

_FORM = re.compile(r"\s*(\S+)\s+on\s+(\S+)\s*")


@dataclass(frozen=True)
class CostPlace:
    """A model and hardware, each by its name or as a .yaml file."""

    model: str = "llama3-8b"
    hardware: str = "b200"

    def __str__(self) -> str:
        return f"{self.model} on {self.hardware}"

    def checked(self) -> CostPlace:
        """The same. Raises UserError for a model or hardware that is unknown, or a file that is wrong."""
        from dse.cost.models import deployed
        from dse.cost.profiles import profile

        deployed(self.model)
        profile(self.hardware)
        return self


USUAL = CostPlace()
"""Where times are taken if nothing else is said."""
PLACES = (
    USUAL,
    CostPlace("llama3-8b", "mi355x"),
    CostPlace("llama3-8b", "rtx-pro-6000"),
    CostPlace("dsv3-16b", "b200"),
)
"""Places of a report if nothing else is said; the first is shown at once."""


def cost_place(text: object, folder: Path = Path()) -> CostPlace:
    """A place from text; .yaml files are looked for beside ``folder``.

    Raises UserError for other text, an unknown model or hardware, and a file that is wrong.

    >>> cost_place("llama3-70b on gb200")
    CostPlace(model='llama3-70b', hardware='gb200')
    """
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UserError(f"a place is a model on hardware, for example '{USUAL}'; found {text!r}")
    return CostPlace(*(_file(part, folder) for part in found.groups())).checked()


def _file(name: str, folder: Path) -> str:
    return str(folder / name) if name.endswith((".yaml", ".yml")) else name


__all__ = ["PLACES", "USUAL", "CostPlace", "cost_place"]
