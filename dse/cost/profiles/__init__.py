"""Hardware profiles for times: rates, latencies and number formats of accelerators, every number with its source.

``profile("b200")`` is one that comes with the package (a YAML file of this folder), ``profile("my.yaml")`` a user's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dse.cost.described import find, names_in
from dse.cost.profiles.profile import INSTRUCTIONS, Number, Profile, Unit

_FOLDER = Path(__file__).parent
PROFILES = tuple(names_in(_FOLDER))
"""Names of the profiles that come with the package."""


@cache
def profile(name: str) -> Profile:
    """A profile by name, or from a .yaml file. Raises UserError for an unknown name or a wrong file."""
    return find(name, _FOLDER, Profile, "hardware")


__all__ = ["INSTRUCTIONS", "PROFILES", "Number", "Profile", "Unit", "profile"]
