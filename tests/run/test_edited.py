"""A sweep's file is edited between runs: through the command line, with real files, only what is new is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dse import cli
from dse.results.record import Record
from dse.results.store import Store

SWEEP = """
name: edited
tasks: [{regression: {training: {steps: 3, batch: 16}}}]
recipes: [bf16, mxfp4]
seeds: 2
grid:
  '*.block': [16, 32]
"""


def test_after_an_edit_only_new_cells_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, results = tmp_path / "edited.yaml", tmp_path / "results"

    def run(text: str) -> tuple[set[str], str]:
        """The trials that `dse run` trains with this text in the file, and what it says first."""
        before = stored(results)
        file.write_text(text, encoding="utf-8")
        words = ["dse", "run", str(file), "--results", str(results), "--executor", "local", "--no-track"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr().out
        assert stop.value.code in (0, None), said
        after = stored(results)
        kept = {uid for uid, record in before.items() if after[uid] == record}  # to the second that it took
        assert kept == before.keys(), "a trial with a result was run again"
        return {f"{after[uid].config}@{after[uid].seed}" for uid in after.keys() - before.keys()}, said

    every, _ = run(SWEEP)
    assert len(every) == 2 + 2 * 2
    assert run(SWEEP)[0] == set()
    new, said = run(SWEEP.replace("[16, 32]", "[16, 32, 64]"))
    assert new == {"mxfp4 *.block=64@0", "mxfp4 *.block=64@1"}
    assert "2 trials to run, 6 done before" in said
    assert run(f"# a comment\n{SWEEP.replace('name: edited', 'name: renamed')}")[0] == set()
    new, _ = run(SWEEP.replace("seeds: 2", "seeds: 3").replace("[16, 32]", "[32]"))
    assert new == {"bf16@2", "mxfp4 *.block=32@2"}
    new, _ = run(SWEEP.replace("steps: 3", "steps: 4"))  # other trainings, all of them
    assert len(new) == len(every)
    assert len(stored(results)) == 6 + 2 + 2 + 6


def stored(results: Path) -> dict[str, Record]:
    return {record.uid: record for record in Store(results).records()} if results.exists() else {}
