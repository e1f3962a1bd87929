"""Provenance of the results: machines, versions, data and times, with warnings where paired trials differ in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dse.report.analysis.tidy import TidyTable
from dse.results.changed_code import changed_code
from dse.results.record import Record
from dse.text import duration, plural
from dse.train.processor import described
from dse.trial import Trial

_WIDTHS = 12
"""Widths of packs that are listed one by one."""


@dataclass(frozen=True)
class Provenance:
    """(value, trials) counts, most frequent first; ``seconds``: sum over trials; ``span``: first start to last end."""

    devices: list[tuple[str, int]]
    hosts: list[tuple[str, int]]
    versions: list[tuple[str, int]]
    data: list[tuple[str, str, int]]  # task, fingerprint, trials
    packs: list[tuple[str, str, int]]  # what of a pack, in words; of its trials
    seconds: float
    when: str
    span: str
    warnings: list[str]


def provenance(table: TidyTable, trials: Iterable[Trial] = ()) -> Provenance:
    """The provenance of the table's records; ``trials``: theirs, whose code may have changed since."""
    records = list(table.records.values())
    data = Counter((r.task, r.data) for r in records)
    times = [(start, start + timedelta(seconds=r.seconds)) for r in records if (start := _time(r.started))]
    first, last = (min(t[0] for t in times), max(t[1] for t in times)) if times else (None, None)
    versions = Counter(", ".join(f"{k} {v}" for k, v in sorted(r.versions.items())) for r in records)
    return Provenance(
        devices=Counter(r.device for r in records).most_common(),
        hosts=Counter(r.host for r in records).most_common(),
        versions=versions.most_common(),
        data=[(task, print_, n) for (task, print_), n in data.most_common()],
        packs=_packs([r.pack for r in records]),
        seconds=sum(r.seconds for r in records),
        when=_when(first, last) if first and last else "",
        span=duration((last - first).total_seconds()) if first and last else "",
        warnings=[*_warnings(table), *_changed(trials, records)],
    )


def _packs(packs: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Widths, kernels, CUDA graphs, and the reasons where there was none."""
    recorded = [pack for pack in packs if pack]
    found = [
        ("pack of", f"{width:,}", n) for width, n in Counter(int(p.get("width", 1)) for p in recorded).most_common()
    ]
    if len(found) > _WIDTHS:
        rest = found[_WIDTHS:]
        found[_WIDTHS:] = [("pack of", f"{plural(len(rest), 'other width')}", sum(n for *_, n in rest))]
    for key, name in (("kernels", "kernels"), ("graph", "CUDA graph")):
        counts = Counter("yes" if pack.get(key) else "no" for pack in recorded)
        found += [(name, value, n) for value, n in counts.most_common()]
    reasons = Counter(str(why) for pack in recorded for why in pack.get("reference_because", ()))
    found += [("reference because", why, n) for why, n in reasons.most_common()]
    halved = Counter(str(why) for pack in recorded if (why := pack.get("evaluated_in_halves_because")))
    found += [("evaluated in halves because", why, n) for why, n in halved.most_common()]
    refused = Counter(str(pack["no_graph_because"]) for pack in recorded if pack.get("no_graph_because"))
    found += [("no graph because", why, n) for why, n in refused.most_common()]
    chips = Counter(described(facts) for pack in recorded if (facts := pack.get("processor")))
    found += [("processor", chip, n) for chip, n in chips.most_common()]
    moved = sum("resumed_from" in pack for pack in recorded)
    found += [("resumed from", "a checkpoint of another processor", moved)] * (moved > 0)
    missing = len(packs) - len(recorded)
    return found + ([("pack of", "not recorded", missing)] if missing else [])


def _warnings(table: TidyTable) -> list[str]:
    if table.frame.empty:
        return []
    frame, found = table.frame, []
    if mixed := int((frame["mixed"] & frame["gap"].notna()).sum()):
        found.append(
            f"{plural(mixed, 'gap')} compare trials of different devices, processors or versions; pairing by seed is "
            "weaker there."
        )
    if several := [table.records[uid].device for uid in table.records if uid in table.trials.several]:
        counts = " and ".join(f"{kind} ({count:,})" for kind, count in Counter(several).most_common())
        found.append(
            f"{plural(len(several), 'trial')} ran on several kinds of device; of their results those of {counts} count "
            "here, and gaps are of one kind wherever the baseline ran there too."
        )
    if other := int((frame["why"] == "baseline saw other data").sum()):
        found.append(f"{plural(other, 'trial')} saw other data than the baseline; their gaps are left unknown.")
    return found


def _changed(trials: Iterable[Trial], records: list[Record]) -> list[str]:
    said = changed_code(trials, records)
    return [f"{said[0].upper()}{said[1:]}."] if said else []


def _time(iso: str) -> datetime | None:
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return None


def _when(first: datetime, last: datetime) -> str:
    """'on 2026-11-22 from 03:00 to 03:06 UTC', or both in full."""
    zone = last.strftime("%Z")
    if first.date() == last.date():
        return f"on {first:%Y-%m-%d} from {first:%H:%M} to {last:%H:%M} {zone}".strip()
    return f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} {zone}".strip()
