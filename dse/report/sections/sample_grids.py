"""Sample images of generative models, from the same fixed noise, beside the baseline's and real ones, with metrics."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dse.number_format import interval, number, percent
from dse.report.analysis.tidy import MISSING, TidyTable, row_dicts
from dse.report.sections.table_rows import TableCell, sort_key
from dse.results.record import DIVERGED, OK
from dse.results.samples import REAL, distance, pictures
from dse.stats import Estimate, estimate
from dse.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from dse.results.record import Record
    from dse.tasks.pictures import Pictures

MOST = 16
"""Configurations with pictures, a task."""
_BY_NOISE = "loss_"
_FRECHET = "frechet"


@dataclass(frozen=True)
class SampleRow:
    """A row: a configuration's pictures as a data URI (None, and the reason ``why``), its numbers by column."""

    recipe: str
    overrides: str
    baseline: bool
    image: str | None
    why: str
    cells: list[TableCell]


@dataclass(frozen=True)
class SampleGrid:
    """A task's pictures of one ``seed``, ``count`` a row; ``columns``: heads of the numbers; ``omitted``: how
    many rows are left out; ``frechet_images``: images per Fréchet distance, 0 where there is none.
    """

    task: str
    seed: str
    count: int
    real: str | None
    columns: list[str]
    rows: list[SampleRow]
    omitted: int
    frechet_images: int
    seeds: int


def samples_frame(table: TidyTable) -> pd.DataFrame:
    """One row per trial with pictures or a Fréchet distance: task, config, recipe, seed, sample_distance to the
    baseline of the same seed (in deviations of the data's pixels, over all kept pictures), frechet, and the losses by
    noise level."""
    import pandas as pd

    rows = []
    for cell in table.rows:
        record = table.records.get(cell["uid"])
        if record is None or not (record.samples or _FRECHET in record.metrics):
            continue
        head = {name: cell[name] for name in ("task", "config", "recipe", "seed", "is_baseline")}
        noise = {k: v for k, v in record.metrics.items() if k.startswith(_BY_NOISE)}
        own = {"sample_distance": distance(record, table.paired_baseline(cell["uid"]))}
        rows.append(head | own | {_FRECHET: record.metrics.get(_FRECHET)} | noise)
    return pd.DataFrame(rows)


def sample_grids(table: TidyTable, configs: pd.DataFrame, chosen: Sequence[str]) -> list[SampleGrid]:
    """One per task whose models make pictures, the configuration with the smallest gap first; ``chosen`` ones are
    shown in any case."""
    found = []
    for task in table.tasks:
        cells = row_dicts(table.frame[table.frame["task"] == task])
        if any(pictures(table.records.get(cell["uid"])) for cell in cells):
            rows = configs[configs["task"] == task].sort_values("gap_mean", na_position="last")
            found.append(_grid(table, task, cells, chosen, [str(config) for config in rows["config"]]))
    return found


def _grid(
    table: TidyTable, task: str, cells: list[dict[str, Any]], chosen: Sequence[str], order: Sequence[str]
) -> SampleGrid:
    by_config: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        by_config.setdefault(cell["config"], []).append(cell)
    base = [name for name, mine in by_config.items() if mine[0]["is_baseline"]]
    others = [config for config in (*chosen, *order) if config in by_config]
    wanted = dict.fromkeys([*base[:1], *others, *base])
    kept = list(wanted)[:MOST]
    rank = {config: place for place, config in enumerate(order)}
    kept.sort(key=lambda config: (config not in base, rank.get(config, len(rank))))
    records = [table.records[cell["uid"]] for cell in cells if cell["uid"] in table.records]
    seed = next(c["seed"] for c in cells if pictures(table.records.get(c["uid"])))
    first = next(found for record in records if (found := pictures(record)))
    real = next((found for record in records if (found := pictures(record, REAL))), None)
    noise = list(dict.fromkeys(name for record in records for name in record.metrics if name.startswith(_BY_NOISE)))
    graded = any(_FRECHET in record.metrics for record in records)
    columns = [f"distance to {table.baseline}", *(["Fréchet distance"] if graded else [])]
    columns += [f"loss, {name.removeprefix(_BY_NOISE)} noise" for name in noise]
    options = next(iter(records)).trial.get("options", {})
    return SampleGrid(
        task=task,
        seed=seed,
        count=len(first.pixels),
        real=_uri(real),
        columns=columns,
        rows=[_sample_row(table, by_config[config], seed, noise, graded) for config in kept],
        omitted=len(by_config) - len(kept),
        frechet_images=int(options.get("generate", 0)) if graded else 0,
        seeds=len({cell["seed"] for cell in cells}),
    )


def _sample_row(
    table: TidyTable, cells: list[dict[str, Any]], seed: str, noise: Sequence[str], graded: bool
) -> SampleRow:
    own = next((cell for cell in cells if cell["seed"] == seed), cells[0])
    own_pictures = pictures(table.records.get(own["uid"]))
    pairs = [(table.records.get(c["uid"]), table.paired_baseline(c["uid"])) for c in cells]
    whole = [(record, base) for record, base in pairs if record and record.status == OK]
    baseline = bool(own["is_baseline"])
    far = estimate(distance(record, base) for record, base in whole)
    numbers = [TableCell("0 (reference)", -math.inf) if baseline else _cell(far)]
    if graded:
        numbers.append(_cell(estimate(_number(record, _FRECHET) for record, _ in whole)))
    for name in noise:
        if baseline:
            own_loss = estimate(_number(record, name) for record, _ in whole)
            numbers.append(TableCell(number(own_loss.mean), -math.inf, title=plural(own_loss.n, "seed")))
        else:
            gap = estimate(_number(record, name) / (_number(base, name) or math.nan) - 1 for record, base in whole)
            numbers.append(
                TableCell(percent(gap.mean, gap.half, sign=True), sort_key(gap.mean), title=plural(gap.n, "seed"))
            )
    recipe, config = own["recipe"], own["config"]
    return SampleRow(recipe, config.removeprefix(recipe).strip(), baseline, _uri(own_pictures), _why(own), numbers)


def _why(cell: dict[str, Any]) -> str:
    if cell["status"] == DIVERGED:
        at = cell["diverged_at"]
        return "diverged" if math.isnan(at) else f"diverged at step {at:,.0f}"
    return {MISSING: "not run yet", OK: "no pictures kept"}.get(cell["status"], str(cell["status"]))


def _cell(e: Estimate) -> TableCell:
    return TableCell(interval(e.mean, e.half), sort_key(e.mean), title=plural(e.n, "seed"))


def _number(record: Record | None, name: str) -> float:
    value = record.metrics.get(name) if record else None
    return math.nan if value is None else float(value)


def _uri(some: Pictures | None) -> str | None:
    return f"data:image/png;base64,{base64.b64encode(some.strip()).decode()}" if some else None


__all__ = ["MOST", "SampleGrid", "SampleRow", "sample_grids", "samples_frame"]
