"""A record says which processor and libraries computed it; a checkpoint of another processor is said to be one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.commands import why
from dse.recipes import RECIPES
from dse.report.analysis.tidy import _apart
from dse.report.sections.provenance import _packs
from dse.results.record import Record
from dse.run.notices import cautions
from dse.tasks import TASKS
from dse.train import checkpoint, processor
from dse.train.checkpoint import Checkpoints
from dse.train.loop import TrainContext, run_pack, run_trial
from dse.train.processor import described, fingerprint
from dse.trial import Trial
from tests.processors.branches import branch, environment, missing

OTHER = {"maker": "GenuineIntel", "model": "Another", "instructions": "AVX2", "bits": "00000000"}


def trial(steps: int = 4) -> Trial:
    task = TASKS["regression"]()
    return Trial(task, replace(task.training(), steps=steps, batch=4, eval_every=0), RECIPES["nvfp4"], 0)


def test_the_facts() -> None:
    facts = processor.processor()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert facts["model"]
    assert ("mkl" in facts) == torch.backends.mkl.is_available()
    assert set(facts["bits"]) <= set("0123456789abcdef")
    fingerprint.cache_clear()
    assert fingerprint() == facts["bits"]
    assert described(OTHER) == "Another (GenuineIntel), AVX2, bits 00000000"
    assert described({}) == "unknown processor"


def test_the_fingerprint_tells_routes_apart(tmp_path: Path) -> None:
    """... where the first of these can be taken, which gives other bits on every processor."""
    one = branch(MKL_CBWR="COMPATIBLE")
    if why_not := missing(one):
        pytest.skip(why_not)
    command = [sys.executable, "-c", "from dse.train.processor import fingerprint; print(fingerprint())"]
    done = subprocess.run(
        command, env=environment(one, tmp_path), capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert len(done.stdout.strip()) == 8
    assert done.stdout.strip() != fingerprint()


def test_records_name_the_processor(capsys: pytest.CaptureFixture[str]) -> None:
    record = run_trial(trial())
    assert record.pack["processor"] == dict(processor.processor())
    again = Record.parse(record.line())
    assert again == record
    lines = list(why._provenance(record))
    assert f"processor {described(processor.processor())}" in lines
    assert not any("processor" in line for line in lines if line.startswith("pack"))
    old = replace(record, pack={"width": 1})
    assert not any("processor" in line for line in why._provenance(old))
    assert ("processor", described(OTHER), 1) in _packs([{"processor": OTHER}])


def test_pairs_of_two_processors_are_told(make: Callable[..., Record]) -> None:
    mine, theirs, old = make(), make(processor=OTHER), make(processor=None)
    assert _apart(mine, theirs)
    assert not _apart(mine, mine)
    assert not _apart(mine, old)  # nothing is known about it
    assert _apart(mine, replace(mine, device="cuda"))


@pytest.fixture
def make() -> Callable[..., Record]:
    record = run_trial(trial(1))

    def made(processor: object = "own") -> Record:
        pack = {key: value for key, value in record.pack.items() if key != "processor"}
        own = record.pack["processor"] if processor == "own" else processor
        return replace(record, pack=pack | ({"processor": own} if own else {}))

    return made


class Killed(BaseException):
    """Ends a training as a kill does."""


@pytest.mark.parametrize("facts", [OTHER, None, "own"], ids=["another", "unknown", "the same"])
def test_a_checkpoint_of_another_processor(facts: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on from it, with a warning, and the record tells; an old one does not say whose it is."""
    monkeypatch.setattr(checkpoint, "_SHARE", 0)

    def stop(step: int, steps: int) -> None:
        if step == 2:
            raise Killed

    if facts != "own":
        monkeypatch.setattr("dse.train.resume.processor", lambda: facts or {})
    with pytest.raises(Killed):
        run_pack([trial()], TrainContext(on_step=stop, checkpoints=Checkpoints(tmp_path, every=0.0)))
    monkeypatch.setattr("dse.train.resume.processor", processor.processor)
    setup = TrainContext(checkpoints=Checkpoints(tmp_path, every=0.0))
    if facts is OTHER:
        with pytest.warns(UserWarning, match=r"step 2: the checkpoint is from another processor \(Another"):
            (record,) = run_pack([trial()], setup)
    else:
        (record,) = run_pack([trial()], setup)
    assert record.pack["resumed_at"] == 2
    assert record.pack.get("resumed_from") == (OTHER if facts is OTHER else None)
    (note,) = cautions([record, record]) or [""]
    assert ("checkpoint of another processor" in note) == (facts is OTHER)
    said = "\n".join(why._provenance(record))
    assert ("went on from a checkpoint of another: Another (GenuineIntel)" in said) == (facts is OTHER)
