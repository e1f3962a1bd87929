"""Which kernels a GPU runs: those whose bits were compared with the reference's on one.

Triton's interpreter runs all of them, and does not show everything that a GPU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dse.kernels.availability import interpreted

UNCHECKED: dict[str, str] = {}
"""What plain torch computes on a GPU until its kernels have been compared there, and why."""


class _State:
    """``on``: whether a check is running, which needs all kernels."""

    on = False


@contextmanager
def all_kernels() -> Iterator[None]:
    """Within it a GPU runs the unchecked kernels too: for the checks themselves."""
    before, _State.on = _State.on, True
    try:
        yield
    finally:
        _State.on = before


def unchecked(part: str) -> str:
    """Why a GPU leaves a part of ``UNCHECKED`` to plain torch; '' where its kernels run."""
    return "" if interpreted() or _State.on else UNCHECKED.get(part, "")


__all__ = ["UNCHECKED", "all_kernels", "unchecked"]
