"""Training curves as a long frame, each point beside the baseline's at the same seed and step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dse.report.analysis.tidy import TidyTable

if TYPE_CHECKING:
    import pandas as pd

    from dse.results.record import Record

TRAINING, HELD_OUT = "training loss", "held-out metric"
COLUMNS = ["task", "config", "recipe", "seed", "status", "kind", "step", "value", "difference"]


def training_curves(table: TidyTable, configs: Iterable[str]) -> pd.DataFrame:
    """Every finite point of the given configurations: COLUMNS, with ``kind`` TRAINING or HELD_OUT.

    ``difference`` = value - the baseline's value at the same task, seed and step (NaN without one): same
    initialization and same batches, so that the noise both share cancels.
    """
    import pandas as pd

    chosen = set(configs)
    rows = []
    for cell in table.rows:
        record = table.records.get(cell["uid"])
        if record is None or cell["config"] not in chosen:
            continue
        base = table.paired_baseline(cell["uid"])
        head = [cell[name] for name in ("task", "config", "recipe", "seed", "status")]
        for kind in (TRAINING, HELD_OUT):
            reference = _points(base, kind) if base else {}
            for step, value in _points(record, kind).items():
                rows.append([*head, kind, step, value, value - reference.get(step, math.nan)])
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(record: Record, kind: str) -> dict[int, float]:
    points = record.curve if kind == TRAINING else record.evals
    return {int(s): float(v) for s, v in points if s is not None and v is not None and math.isfinite(v)}
