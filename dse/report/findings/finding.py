"""A finding: a sentence and its particulars."""

from __future__ import annotations

from dataclasses import dataclass, field

CLOSE = 0.01
"""'Close to the baseline': at most this share of its improvement is lost."""


@dataclass(frozen=True)
class Finding:
    """A lead of a few words, the sentence, and particulars below it."""

    lead: str
    sentence: str
    points: list[str] = field(default_factory=list)
