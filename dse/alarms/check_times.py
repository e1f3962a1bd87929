"""The schedule of GEMM checks: at which steps of a training, and in which of its layers."""

from __future__ import annotations

from collections.abc import Sequence

CHECKS = ((400, 3), (200, 2), (0, 1))
"""(steps of a training from which on, number of checks): each costs about one step and a half."""
_SHARE = 10
"""One layer of so many is checked at a time, three at most."""
_MOST = 3


def due(steps: int) -> tuple[int, ...]:
    """The steps before which a training of ``steps`` steps is checked: the middles of equal parts of it.

    >>> due(60), due(400)
    ((30,), (66, 200, 333))
    """
    count = next(number for least, number in CHECKS if steps >= least)
    return tuple(int((i + 0.5) * steps / count) for i in range(count)) if steps else ()


def chosen(layers: Sequence[str], check: int) -> list[str]:
    """The layers of check number ``check``: spread over the model, others each time.

    >>> chosen(["a", "b", "c"], 0), chosen(["a", "b", "c"], 1)
    (['a'], ['b'])
    """
    if not layers:
        return []
    count = min(_MOST, max(1, round(len(layers) / _SHARE)))
    stride = len(layers) / count
    return [layers[int(check + i * stride) % len(layers)] for i in range(count)]
