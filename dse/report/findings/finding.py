"""The type of a finding: a sentence with details."""

from __future__ import annotations

from dataclasses import dataclass, field

CLOSE = 0.01
"""'Close to the baseline': at most this share of its improvement is lost."""


@dataclass(frozen=True)
class Finding:
    """A heading of a few words (``lead``), the sentence, and details listed below it (``points``).

    ``urgent``: it stands before what else is found.
    """

    lead: str
    sentence: str
    points: list[str] = field(default_factory=list)
    urgent: bool = False
