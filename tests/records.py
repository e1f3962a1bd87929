"""What tests compare of two records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.results.record import Record

OF_THE_MACHINE = ("commit", "pid", "pack_seconds", "cpu_seconds", "memory_mib")
"""Facts of a pack (``Record.pack``) that differ between two runs of the same trials."""


def content(record: Record, **changes: Any) -> str:
    """The record's line without what depends on where, when and with whom a trial ran, and with ``changes``."""
    return replace(record, seconds=0.0, started="", pack={}, **changes).line()


def trained(record: Record, **changes: Any) -> str:
    """``content`` of a record that bears no error."""
    assert record.error is None, record.error
    return content(record, **changes)
