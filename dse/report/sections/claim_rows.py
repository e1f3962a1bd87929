"""The table of published claims: what each says, what the sweep measured, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dse.number_format import UNKNOWN, percent
from dse.report.analysis.claim_results import CONTRADICTED, NOT_VISIBLE, REPRODUCED, ClaimResult
from dse.report.sections.table_rows import TableCell, count_cell, sort_key
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

BETTER = "as claimed"
SAME = "the first of the two loses more"
"""What a positive difference means, of claims that one recipe is better and of claims that two are the same."""
_ORDER = (REPRODUCED, CONTRADICTED, NOT_VISIBLE)


def claim_rows(found: Sequence[ClaimResult]) -> list[tuple[ClaimResult, list[TableCell]]]:
    """Per claim and task: the measurement, the seeds, and the verdict."""
    return [(one, [_measured(one), count_cell(one.seeds), _verdict(one)]) for one in found]


def claim_frame(found: Sequence[ClaimResult]) -> pd.DataFrame:
    """One row per claim and task, numbers in full."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "claim": one.claim.statement,
                "source": one.claim.source,
                "says": "same" if one.claim.same else "better",
                "positive_means": SAME if one.claim.same else BETTER,
                "margin": one.claim.margin,
                "task": one.task,
                "lost_difference": one.difference.mean,
                "lost_low": one.difference.low,
                "lost_high": one.difference.high,
                "learned_better": one.learned[0] if one.learned else None,
                "learned_worse": one.learned[1] if one.learned else None,
                "diverged_better": one.diverged[0],
                "diverged_worse": one.diverged[1],
                "seeds": one.seeds,
                "verdict": one.verdict,
            }
            for one in found
        ]
    )


def _measured(one: ClaimResult) -> TableCell:
    if one.learned:
        text = f"{one.learned[0]} and {one.learned[1]} of {plural(one.seeds, 'seed')} learn"
        return TableCell(text, (one.learned[1] - one.learned[0]) / one.seeds)
    text = percent(one.difference.mean, one.difference.half, sign=True) if one.difference.n else UNKNOWN
    if any(one.diverged):
        text += f"; {one.diverged[0]} and {one.diverged[1]} diverged"
    return TableCell(text, sort_key(-one.difference.mean))


def _verdict(one: ClaimResult) -> TableCell:
    place = _ORDER.index(one.verdict) if one.verdict in _ORDER else len(_ORDER)
    return TableCell(one.verdict, place)


__all__ = ["BETTER", "SAME", "claim_frame", "claim_rows"]
