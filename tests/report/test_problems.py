"""Failures by kind, and how packs computed the trials."""

from dataclasses import replace
from pathlib import Path

import pytest

from dse.report import write_report
from dse.report.analysis.tidy import tabulate
from dse.report.sections.problems import divergences, failures
from dse.report.sections.provenance import provenance
from tests.report.studies import diverged, failed, records_of, sweep_of

pytestmark = pytest.mark.usefixtures("few_pictures")

TEXT = "name: x\ntasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 3\n"
TRACE = "Traceback (most recent call last):\n  File ...\n"
ERRORS = [
    TRACE + "torch.OutOfMemoryError: CUDA out of memory.",
    "Timed out: more than 5 s",
    "The worker died (signal 9)",
    TRACE + "ValueError: no",
    TRACE + "ValueError: no",
]


def test_failures_by_kind_with_their_command(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    records = {r.uid: r for r in records_of(sweep, lambda at: 1.0)}
    victims = [c for c in sweep.cells if not c.is_baseline]
    for cell, error in zip(victims, ERRORS, strict=False):
        records[cell.uid] = failed(cell, error)
    records[victims[5].uid] = diverged(victims[5])
    table = tabulate(sweep, records.values())
    found = failures(table)
    kinds = [(item.kind, len(item.cells)) for item in found]
    assert kinds == [("out of memory", 1), ("timed out", 1), ("worker died", 1), ("crashed", 2)]
    assert found[0].error == "torch.OutOfMemoryError: CUDA out of memory."
    assert found[-1].cells[0].why == f"dse why {victims[3].uid}"
    (divergence,) = divergences(table)
    assert divergence.why == f"dse why {victims[5].uid}"
    html = write_report(sweep, records.values(), tmp_path).read_text(encoding="utf-8")
    for cell in victims:
        assert f"dse why {cell.uid}" in html
    assert "Out of memory, 1 trial" in html


def test_how_packs_computed_the_trials(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, TEXT)
    why = "outliers are not covered"
    packs: list[dict[str, object]] = [{"width": 8, "kernels": True, "graph": True}] * 5
    packs += [{"width": 2, "kernels": False, "graph": False, "reference_because": [why], "no_graph_because": "no"}] * 2
    packs += [{}] * 2
    made = zip(records_of(sweep, lambda at: 1.0), packs, strict=True)
    records = [replace(record, pack=pack) for record, pack in made]
    found = provenance(tabulate(sweep, records)).packs
    assert found == [
        ("pack of", "8", 5),
        ("pack of", "2", 2),
        ("kernels", "yes", 5),
        ("kernels", "no", 2),
        ("CUDA graph", "yes", 5),
        ("CUDA graph", "no", 2),
        ("reference because", why, 2),
        ("no graph because", "no", 2),
        ("pack of", "not recorded", 2),
    ]
    assert why in write_report(sweep, records, tmp_path).read_text(encoding="utf-8")
