"""Outcome of a trial in words: its status, or the kind of its failure, and the reason in one line."""

from __future__ import annotations

from dse.results.record import DIVERGED, FAILED, OK, STOPPED, Record

MEMORY, TIME, DIED, CRASHED = "out of memory", "timed out", "worker died", "crashed"
OUTCOMES = (OK, DIVERGED, STOPPED, MEMORY, TIME, DIED, CRASHED)

_SIGNS = {
    MEMORY: ("outofmemoryerror", "out of memory", "memoryerror", "can't allocate memory", "running low on memory"),
    TIME: ("timed out: ",),
    DIED: ("the worker died",),
}
"""Kind of failure -> texts of which one is in its error; the first kind that fits counts."""


def outcome(record: Record) -> str:
    """One of ``OUTCOMES``."""
    if record.status != FAILED:
        return record.status
    error = (record.error or "").strip().lower()
    said = error if error.startswith(_SIGNS[DIED]) else error.rpartition("\n")[2]  # of a traceback, the last line
    return next((kind for kind, signs in _SIGNS.items() if any(sign in said for sign in signs)), CRASHED)


def reason(record: Record) -> str:
    """Why a trial has no final metric, in one line; '' when it has."""
    if record.status == OK:
        return ""
    if record.status == DIVERGED:
        return f"at step {record.diverged_at}: {record.diverged_where}"
    if record.status == STOPPED:
        at = record.stopped
        return f"at rung {at.get('rung')}, step {at.get('step')}, with {at.get('metric'):.6g}"
    lines = (record.error or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason known"
