"""The key `search: {halving: ...}`: successive halving, which stops the worse configurations at rungs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import nearest
from dse.sweep.language.source import Location

KEYS = {
    "eta": "one configuration of so many goes on at each rung",
    "rungs": "shares of the steps at which they are compared, rising; or how many times",
}

_MOST_ETA, _MOST_RUNGS = 1000, 20


@dataclass(frozen=True)
class Halving:
    """At each of ``rungs`` (shares of the steps, rising) the best 1/``eta`` configurations go on."""

    eta: int
    rungs: tuple[float, ...]


def read_halving(at: Location, raw: Any) -> Halving:
    """``{eta: 3, rungs: [0.1, 0.3]}`` or ``{eta: 3, rungs: 2}``, which is at 1/9 and 1/3 of the steps; the defaults.

    Raises UserError (file:line).
    """
    if not isinstance(raw, Mapping):
        raise at.error(f"search: halving is a mapping such as {{eta: 3, rungs: [0.1, 0.3]}}, not {raw!r}")
    for key in raw:
        if key not in KEYS:
            raise (at / key).error(f"search: halving has no {key!r}{nearest(str(key), KEYS)}")
    eta, rungs = raw.get("eta", 3), raw.get("rungs", 2)
    if type(eta) is not int or not 2 <= eta <= _MOST_ETA:
        raise (at / "eta").error(f"search: halving.eta is {eta!r}; valid: a whole number from 2 to {_MOST_ETA}")
    if type(rungs) is int and 1 <= rungs <= _MOST_RUNGS:
        return Halving(eta, tuple(eta**-number for number in range(rungs, 0, -1)))
    if not isinstance(rungs, list) or not 1 <= len(rungs) <= _MOST_RUNGS or not all(map(_is_share, rungs)):
        valid = f"valid: shares of the steps between 0 and 1, or how many, from 1 to {_MOST_RUNGS}"
        raise (at / "rungs").error(f"search: halving.rungs is {rungs!r}; {valid}")
    if sorted(set(rungs)) != rungs:
        raise (at / "rungs").error(f"search: halving.rungs are to rise, not {rungs!r}")
    return Halving(eta, tuple(map(float, rungs)))


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
