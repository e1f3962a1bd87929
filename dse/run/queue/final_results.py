"""Which records of a sweep with successive halving are final results: a trial that waits at a rung has none yet."""

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


def rule(sweep: Sweep) -> HalvingRule | None:
    """The rule of a sweep; its baselines never stop."""
    halving = sweep.search.halving
    if halving is None:
        return None
    spared = frozenset(uid for cell in sweep.cells for uid in cell.baselines.values())
    return HalvingRule(halving.eta, halving.rungs, spared)


def final(sweep: Sweep, cells: Collection[Cell], records: Collection[Record]) -> list[Record]:
    """The records that are results. A trial that stopped at a rung where, among these cells, it has not lost is still
    on its way; to a sweep that stops nobody none has lost."""
    own, halted = rule(sweep), any(record.status == STOPPED for record in records)
    if own is None or not halted:
        return [record for record in records if record.status != STOPPED]
    going_on = Rungs(own, cells, records).open
    return [record for record in records if record.status != STOPPED or record.uid not in going_on]


def counted(sweep: Sweep, cells: Collection[Cell], store: Store) -> Mapping[str, str]:
    """uid -> status of what counts as a result: see ``final``."""
    done, uids = store.done(), {cell.uid for cell in cells}
    halted = {uid for uid, status in done.items() if status == STOPPED}
    kept: set[str] = set()
    if rule(sweep) is not None and not halted.isdisjoint(uids):
        kept = {record.uid for record in final(sweep, cells, store.records(uids, brief=True))}
    return {uid: status for uid, status in done.items() if uid not in halted or uid in kept}
