"""Final results of a sweep: with successive halving, a trial that waits at a rung has a record but no result yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from dse.results.record import STOPPED
from dse.run.queue.rungs import Rungs
from dse.train.halving import HalvingRule

if TYPE_CHECKING:
    from dse.results.record import Record
    from dse.results.store import Store
    from dse.sweep import Cell, Sweep


def halving_rule(sweep: Sweep) -> HalvingRule | None:
    """The halving rule of a sweep, None without one; its baselines never stop."""
    halving = sweep.search.halving
    if halving is None:
        return None
    spared = frozenset(uid for cell in sweep.cells for uid in cell.baselines.values())
    return HalvingRule(halving.eta, halving.rungs, spared)


def final_results(sweep: Sweep, cells: Collection[Cell], records: Collection[Record]) -> list[Record]:
    """The records that are final. A trial that stopped at a rung is not finished while, among these cells, it has not
    lost there; in a sweep without halving no trial has lost."""
    own, halted = halving_rule(sweep), any(record.status == STOPPED for record in records)
    if own is None or not halted:
        return [record for record in records if record.status != STOPPED]
    unfinished = Rungs(own, cells, records).unfinished
    return [record for record in records if record.status != STOPPED or record.uid not in unfinished]


def final_statuses(
    sweep: Sweep, cells: Collection[Cell], store: Store, recorded: Mapping[str, str] | None = None
) -> Mapping[str, str]:
    """uid -> status of the cells with a final result. ``recorded``: ``store.done()`` where it has just been read."""
    done, uids = store.done() if recorded is None else recorded, {cell.uid for cell in cells}
    halted = {uid for uid, status in done.items() if status == STOPPED}
    kept: set[str] = set()
    if halving_rule(sweep) is not None and not halted.isdisjoint(uids):
        kept = {record.uid for record in final_results(sweep, cells, store.records(uids, brief=True))}
    return {uid: status for uid, status in done.items() if uid not in halted or uid in kept}
