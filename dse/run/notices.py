"""Warnings about results whose last bits may differ from those of another machine, or of a trial that runs alone."""

from __future__ import annotations

from collections.abc import Iterable

from dse.results.record import Record


def cautions(records: Iterable[Record]) -> list[str]:
    """One line for each kind of warning that applies to these results."""
    found: dict[str, None] = {}
    for record in records:
        if names := record.pack.get("depends_on_place"):
            found[
                f"task {record.task}: {', '.join(names)} may give a trial other last bits in a pack than alone; "
                "docs/add-a-task.md says what does not"
            ] = None
        if "resumed_from" in record.pack:
            found[
                f"trials of {record.task} went on from a checkpoint of another processor: their last bits are neither "
                "machine's own (docs/reproducibility.md)"
            ] = None
    return list(found)


__all__ = ["cautions"]
