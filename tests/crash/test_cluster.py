"""A Ray cluster of several nodes, one of which dies while packs run on all of them.

The nodes are on one machine: each has its own raylet and workers, which die together, as those of a machine do.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.train.options import RunOptions
from tests.crash.test_driver import PATIENCE, running, written
from tests.records import content

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SWEEP = """
name: nodes
tasks:
  - regression: {training: {steps: 40, batch: 32}}
recipes: [bf16, mxfp4]
seeds: 12
"""


def test_a_node_dies_while_packs_run(tmp_path: Path) -> None:
    """Every trial ends exactly once, with the numbers of an undisturbed run, and none is blamed for the node's end."""
    sweep_file, results = tmp_path / "nodes.yaml", tmp_path / "results"
    sweep_file.write_text(SWEEP, encoding="utf-8")
    sweep, undisturbed = load_sweep(sweep_file), Store(tmp_path / "undisturbed")
    run_sweep(sweep, undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: content(record, attempt=0) for record in undisturbed.records()}
    words = [str(Path(__file__).with_name("cluster.py")), str(sweep_file), str(results), "4"]
    with running(words, results) as (process, log):
        code = process.wait(2 * PATIENCE)
        said = log.read_text(encoding="utf-8")
        print(said[-1500:])
    assert code == 0
    killed = re.search(r"killed with (\d+) busy workers and (\d+) results", said)
    assert killed, "no node was killed"
    assert int(killed[1]) == 1
    assert 4 <= int(killed[2]) < len(sweep.cells), "the kill came too late to prove anything"
    records = written(results)
    assert Counter(record.uid for record in records) == Counter(cell.uid for cell in sweep.cells)
    assert [record.error for record in records if record.error] == []
    assert {record.uid: content(record, attempt=0) for record in records} == expected
