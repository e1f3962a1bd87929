"""Mutants of valid sweep files: each is accepted with a valid meaning, or refused with one line. Nothing else."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dse.errors import UserError
from dse.plan import make_plan, plan_text
from dse.sweep import Cell, Excluded, Sweep, cell_at, load_sweep, schema_json
from dse.sweep.read.include import read_files
from dse.trial import Trial
from tests.sweep.mutants import mutant

CORPUS = Path(__file__).parent / "corpus"
SHIPPED = Path(__file__).parents[2] / "sweeps"
SEED = int(os.environ.get("FUZZ_SEED", "20261122"))
SECONDS = 30
"""Of processor time, for one mutant: a hang. They take some hundredths."""


@contextmanager
def no_hang() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def check_refusal(error: UserError) -> None:
    line = str(error)
    assert line.splitlines() == [line]
    assert line.startswith(("x.yaml", "parts/")), line
    assert 10 < len(line) < 2000


def check_sweep(sweep: Sweep, path: Path, validator: Any, generator: random.Random) -> None:
    cells = list(sweep.cells)
    if sweep.search.needs_results:
        assert not cells
        assert sweep.space is not None
        for _ in range(3):
            shares = [generator.random() for _ in sweep.space.dimensions]
            found = cell_at(
                sweep.space, sweep.space.from_unit_cube(generator.choice(list(sweep.space.tasks)), shares), 1
            )
            cells += [found] if isinstance(found, Cell) else []
            assert isinstance(found, Cell | Excluded)
    else:
        assert cells
        uids = Counter(cell.uid for cell in cells)
        keys = Counter((cell.labels["task"], cell.config, cell.labels["seed"]) for cell in cells)
        assert set(uids.values()) == set(keys.values()) == {1}
        assert {uid for cell in cells for uid in (cell.baseline_uid, *cell.baselines.values())} <= set(uids)
        assert sweep.name in plan_text(make_plan(sweep, {}))
    for cell in generator.sample(cells, min(3, len(cells))):
        trial = cell.trial
        assert Trial(trial.task, trial.training, trial.recipe, trial.seed, trial.start).uid == cell.uid
        assert Trial.from_spec(trial.spec, trial.recipe.name).uid == cell.uid
    for file in read_files(path):
        errors = [error.message[:300] for error in validator.iter_errors(file.source.data)]
        assert not errors, f"the loader takes what the schema refuses: {errors[0]}"


def fuzz(count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What became of ``count`` mutants: accepted or refused."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(schema_json())
    monkeypatch.setattr("dse.sweep.cells.cell_count.MOST_CELLS", 3000)
    monkeypatch.chdir(folder)
    shutil.copytree(CORPUS / "parts", "parts")
    files = sorted([*CORPUS.glob("*.yaml"), *SHIPPED.glob("*.yaml")])
    outcomes: Counter[str] = Counter()
    slowest = (0.0, -1)
    print(f"FUZZ_SEED={SEED}")
    for number in range(count):
        generator = random.Random(f"{SEED} {number}")
        text = mutant(generator.choice(files).read_text(encoding="utf-8"), generator)
        Path("x.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
        begin = time.process_time()
        try:
            with no_hang():
                try:
                    sweep = load_sweep(Path("x.yaml"))
                except UserError as error:
                    check_refusal(error)
                    outcomes["refused"] += 1
                else:
                    check_sweep(sweep, Path("x.yaml"), validator, generator)
                    outcomes["accepted"] += 1
        except BaseException:
            print(f"mutant {number} of FUZZ_SEED={SEED}:\n{text}")
            raise
        slowest = max(slowest, (time.process_time() - begin, number))
    print(f"{count} mutants: {dict(outcomes)}, the slowest {slowest[0]:.2f} s (number {slowest[1]})")
    return outcomes


@pytest.mark.parametrize("count", [70, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_some_mutants(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = fuzz(count, tmp_path, monkeypatch)
    assert min(outcomes["accepted"], outcomes["refused"]) > count // 10


@pytest.mark.slow
def test_ten_thousand_mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = fuzz(10_000, tmp_path, monkeypatch)
    assert min(outcomes["accepted"], outcomes["refused"]) > 1000


def test_the_files_themselves_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(schema_json())
    monkeypatch.chdir(CORPUS)
    for path in sorted([*CORPUS.glob("*.yaml"), *SHIPPED.glob("*.yaml")]):
        check_sweep(load_sweep(path), path, validator, random.Random(0))
