"""A view that MLflow's page shows by its name: charts of accuracy against cost, over the runs of one sweep.

MLflow keeps saved views as tags of an experiment and lists them in its menu 'Views'. It does not document their keys;
those here are what its page of 3.17.2 reads. A version that knows no such tag shows its own columns and charts.
"""

from __future__ import annotations

import json
from typing import Any

VIEW = "front"
"""The view's key, in its tag and its link."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"

_CHARTS = (
    ("overhead", "improvement lost"),
    ("overhead", "gap"),
    ("time", "improvement lost"),
    ("time", "gap"),
)
"""(metric along x, metric along y): of both, less is better."""
_METRICS = ("gap", "improvement lost", "overhead", "time", "metric")
_COLUMNS = [f"metrics.`{name}`" for name in _METRICS] + [f"params.`{name}`" for name in ("task", "config", "seed")]
"""Of the table, beside a run's name and when it was."""
_SECTION = "accuracy against cost"
_RUNS = 1000  # in a chart; the page fetches 100 at a time


def saved_view() -> dict[str, str]:
    """The tag that holds the view: all runs sorted by their gap, as a table, and as a scatter plot for each pair of
    metrics."""
    state = {
        "orderByKey": "metrics.`gap`",
        "orderByAsc": True,
        "selectedColumns": _COLUMNS,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [
            {"uuid": VIEW, "name": _SECTION, "display": True, "isReordered": False, "deleted": False}
            | {"isGenerated": False}
        ],
        "compareRunCharts": [_chart(x, y) for x, y in _CHARTS],
    }
    # 3.17 reads ``state`` of a view with a name, and the same keys beside it of one that was shared without a name
    view = {"name": _SECTION, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state), **state}
    return {VIEW_TAG: json.dumps(view)}


def _chart(x: str, y: str) -> dict[str, Any]:
    return {
        "uuid": f"{x}-{y}".replace(" ", "-"),
        "type": "SCATTER",
        "displayName": f"{y} against {x}",
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
        "runsCountToCompare": _RUNS,
        "metricSectionId": VIEW,
        "deleted": False,
        "isGenerated": False,
    }


__all__ = ["VIEW", "VIEW_TAG", "saved_view"]
