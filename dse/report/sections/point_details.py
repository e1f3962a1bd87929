"""What a point of a figure tells when it is hovered over: its configuration, numbers, cost and trials."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dse.number_format import SPACE, interval, number, percent
from dse.report.analysis.configs import ALL
from dse.report.analysis.tidy import TidyTable, row_dicts
from dse.shell import command

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from dse.numerics.recipe import Recipe

_SHOWN = 3
"""Trials whose uids are named, and techniques of the overhead."""
_DIGITS = 8
"""Of a uid: `dse why` finds a trial by its beginning."""


def numbered(configs: pd.DataFrame) -> pd.DataFrame:
    """The rows with the column ``number``, the same for a configuration on every task: its place in the details."""
    if configs.empty:
        return configs
    place = {name: i for i, name in enumerate(dict.fromkeys(configs["config"]))}
    return configs.assign(number=configs["config"].map(place))


def point_details(
    table: TidyTable, configs: pd.DataFrame, results: Path | None, drawn: Collection[str], listed: Collection[int]
) -> list[dict[str, Any] | None]:
    """By number: name, label on every axis, and the lines of text of a configuration.

    Those whose number is ``listed`` in a table and that are not ``drawn`` have no lines, since nothing shows them;
    others are None.
    """
    if configs.empty:
        return []
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in row_dicts(configs):
        rows.setdefault(row["config"], []).append(row)
    cells: dict[str, list[dict[str, Any]]] = {}
    for cell in table.rows:
        cells.setdefault(cell["config"], []).append(cell)
    found: list[dict[str, Any] | None] = []
    for place, (name, mine) in enumerate(rows.items()):
        if name not in drawn and place not in listed:
            found.append(None)
            continue
        first = cells[name][0]
        options = {axis: first[axis] for axis in ("recipe", *table.axes)}
        lines = _lines(table, mine, cells[name], results) if name in drawn else []
        found.append({"n": name, "o": options, "t": lines})
    return found


def as_script(details: list[dict[str, Any] | None]) -> str:
    """JSON that is safe inside of a script element."""
    text = json.dumps(details, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _lines(
    table: TidyTable, rows: list[dict[str, Any]], cells: list[dict[str, Any]], results: Path | None
) -> list[str]:
    from dse.cost.training_phases import stated

    whole = next((row for row in rows if row["task"] == ALL), rows[0])
    lines = [f"improvement lost {percent(whole['lost_mean'], whole['lost_half'])}, all tasks"]
    if math.isnan(whole["lost_mean"]):
        lines = [whole["why"] or "no gap is known"]
    for row in rows:
        if row["task"] != ALL and not math.isnan(row["gap_mean"]):
            gap = interval(row["gap_mean"], row["gap_half"], sign=True)
            lines.append(f"{row['task']}: gap {gap} in {table.metric[row['task']]}, {row['seeds']} seeds")
    trial = table.cells[cells[0]["uid"]].trial
    lines.append(
        f"overhead {number(whole['overhead'])}{SPACE}%{_breakdown(stated(trial.recipe, trial.training.steps))}"
    )
    run = [cell["uid"][:_DIGITS] for cell in cells if cell["uid"] in table.records]
    if run:
        more = f" and {len(run) - _SHOWN} more" if len(run) > _SHOWN else ""
        lines += [f"trials {', '.join(run[:_SHOWN])}{more}", command("why", run[0], results=results)]
    return lines


@lru_cache(maxsize=1024)
def _breakdown(recipe: Recipe) -> str:
    """The techniques that cost most, in percent of the FP4 GEMMs."""
    from dse.cost.overhead import by_technique

    shares = by_technique(recipe)
    top = sorted((item for item in shares.items() if item[1] > 0.005), key=lambda item: -item[1])[:_SHOWN]
    return f": {', '.join(f'{name} {number(share, 2)}' for name, share in top)}" if top else ""


__all__ = ["as_script", "numbered", "point_details"]
