"""Finding: trials whose arithmetic is off by more than their recipe explains."""

from __future__ import annotations

from collections.abc import Sequence

from dse.report.analysis.short_names import few
from dse.report.analysis.tidy import TidyTable
from dse.report.findings.finding import Finding
from dse.report.sections.alarm_rows import AlarmCause, alarm_causes, raised
from dse.text import listing, plural

_MOST = 5


def alarmed_trials(table: TidyTable, said: Sequence[str]) -> Finding | None:
    """How many trials raise alarms, a line for each cause; None where none does.

    It is urgent where an answer (``said``) names a configuration that raises some.
    """
    found = raised(table)
    if not found:
        return None
    checked = sum(bool(record.gemm_checks) for record in table.records.values())
    configs = list(dict.fromkeys(table.cells[uid].config for uid in found))
    text = "\n".join(said)
    named = [config for config in configs if _names(text, config)]
    sentence = (
        f"In {len(found)} of {plural(checked, 'checked trial')} a product of a layer was off by more than its recipe "
        f"explains: {listing(few(configs, _MOST))}."
    )
    if named:
        sentence += f" The answers below about {listing(few(named, _MOST))} are in doubt until you know why."
    causes = alarm_causes(table)
    points = [_line(one) for one in causes[:_MOST]]
    points += [f"And {plural(len(causes) - _MOST, 'further cause')}."] if len(causes) > _MOST else []
    return Finding("The arithmetic raises alarms", sentence, points, urgent=bool(named))


def _names(text: str, config: str) -> bool:
    """Whether a text names a configuration, and not one whose name only begins or ends as its does."""
    import re

    return re.search(rf"(?<![\w.=]){re.escape(config)}(?![\w=]| [\w.*]+=)", text) is not None


def _line(one: AlarmCause) -> str:
    more = f", {plural(one.count, 'product')} in {plural(one.trials, 'trial')}" if one.count > 1 else ""
    return f"{one.config}: {one.meaning}{more}; for example on {one.task}, {one.where}: {one.text}."


__all__ = ["alarmed_trials"]
