"""The key `probes: {every: 50, layers: '*'}`: at which steps, and in which layers, trainings are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dse.errors import nearest
from dse.probes.schedule import Probes
from dse.sweep.language.source import Location

KEYS = {"every": "steps between two looks", "layers": "a pattern of layer names, such as blocks.0.*"}


def read_probes(at: Location, raw: Any) -> Probes | None:
    """None for an empty mapping. Raises UserError (file:line)."""
    if not isinstance(raw, Mapping):
        raise at.error(f"probes is a mapping such as {{every: 50, layers: '*'}}, not {raw!r}")
    for key in raw:
        if key not in KEYS:
            raise (at / key).error(f"probes: there is no {key!r}{nearest(str(key), KEYS)}")
    if not raw:
        return None
    every, layers = raw.get("every", Probes.every), raw.get("layers", Probes.layers)
    if type(every) is not int or every < 1:
        raise (at / "every").error(f"probes: every is {every!r}; valid: a whole number of steps, at least 1")
    if not isinstance(layers, str) or not layers:
        raise (at / "layers").error(
            f"probes: layers is {layers!r}; valid: a pattern of layer names, such as blocks.0.*"
        )
    return Probes(every, layers)
