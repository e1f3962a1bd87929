"""What a running sweep shows: counts, time left, the best configuration, and what went wrong."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from dse.results.gaps import Gap, gap
from dse.results.record import DIVERGED, Record
from dse.run import progress
from dse.run.progress import Bar, Lines, Silent, make_progress
from dse.run.tally import Tally
from dse.sweep import Cell, Sweep

Result = Callable[..., Record]


@pytest.fixture
def result(make_record: Callable[..., Record]) -> Result:
    def make(cell: Cell, metric: float | None, **fields: object) -> Record:
        return make_record(cell.uid, config=cell.config, seed=cell.trial.seed, metric=metric, **fields)

    return make


def test_tally(sweep: Sweep, result: Result) -> None:
    """The best configuration has a number on every seed, and is told by the improvement lost: of 4 and of 3 here."""
    b0, b1, small0, large0, small1, large1 = sweep.cells
    assert (small0.config, large0.config, large1.trial.seed) == ("mxfp4 *.block=16", "mxfp4 *.block=32", 1)

    def end(cell: Cell, metric: float | None, **fields: object) -> Record:
        return result(cell, metric, metric_initial=5.0, **fields)

    tally = Tally(sweep.cells, [end(b0, 1.0, seconds=4.0)], workers=2)
    assert (tally.total, tally.ran) == (5, 0)
    assert tally.seconds_left() == pytest.approx(5 * 4.0 / 2)
    tally.add(end(large0, 1.5, seconds=2.0))
    tally.add(end(small0, 1.25, seconds=2.0))
    assert tally.best() == {}, "the other seed is to run"
    assert tally.seconds_left() == pytest.approx((4.0 + 2 * 2.0) / 2), "a baseline like the other, and two in MXFP4"
    tally.add(end(b1, 2.0))
    tally.add(end(small1, None, status=DIVERGED))
    assert tally.best() == {}
    tally.add(end(large1, 2.6))
    (best,) = tally.best().values()
    assert (best.config, best.lost.n) == ("mxfp4 *.block=32", 2)
    assert best.lost.mean == pytest.approx((0.5 / 4 + 0.6 / 3) / 2)
    assert best.text == f"16 ± {100 * best.lost.half:.0f} %"
    assert tally.counts == {"ok": 4, "diverged": 1}
    assert tally.seconds_left() == 0


def test_time_left_is_unknown_at_first(sweep: Sweep) -> None:
    assert Tally(sweep.cells, [], workers=2).seconds_left() is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(step=3.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


@pytest.mark.usefixtures("clock")
def test_plain_lines_are_rare(capsys: pytest.CaptureFixture[str], sweep: Sweep, result: Result) -> None:
    trials = [(cell, replace(cell.trial, seed=seed)) for cell in sweep.cells for seed in range(200)]
    many = [replace(cell, trial=trial, baseline_uid=trial.baseline().uid) for cell, trial in trials]
    cells = list({cell.uid: cell for cell in many}.values())
    assert len(cells) == 600
    tally = Tally(cells, [], workers=2)
    display = Lines(tally)
    for index, cell in enumerate(cells):
        record = result(cell, None, status=DIVERGED, diverged_at=3, diverged_where="loss inf")
        tally.add(record if index < 20 else result(cell, 1.0, metric_initial=2.0))
        display.on_result(cell, record if index < 20 else result(cell, 1.0))
        display.refresh()
    lines = capsys.readouterr().out.splitlines()
    unusual = [line for line in lines if line.startswith("diverged: ")]
    assert unusual[0] == "diverged: regression bf16@0 at step 3: loss inf"
    assert len(unusual) == 5
    assert 20 < len(lines) < 150
    assert lines[-1].startswith("600/600 ")
    assert "  ok 580  diverged 20  best so far, improvement lost: " in lines[-1]


def test_the_bar(sweep: Sweep, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    tally = Tally(sweep.cells, [], workers=2)
    display = make_progress(tally)
    assert isinstance(display, Bar)
    display.refresh()
    for cell in sweep.cells:
        tally.add(result(cell, 1.0, metric_initial=2.0))
        display.on_result(cell, result(cell, 1.0))
    display.say("stopping [all of it]")
    display.close()
    text = out.getvalue()
    assert "6/6" in text
    assert "best so far, improvement lost: regression mxfp4 *.block=16 0 ± 0 %" in text
    assert "stopping [all of it]" in text
    assert isinstance(make_progress(tally, wanted=False), Silent)


def test_gap(make_record: Callable[..., Record]) -> None:
    base = make_record("b", metric=2.0, metric_initial=6.0)
    assert gap(make_record("u", metric=3.0), base) == Gap(1.0, 50.0, 0.25)
    assert gap(base, base) == Gap(0.0, 0.0, 0.0)
    assert gap(make_record("u", metric=None), base) is None
    assert gap(make_record("u"), None) is None
    flat = make_record("b", metric=0.0, metric_initial=0.0)
    assert gap(make_record("u", metric=3.0), flat) == Gap(3.0, None, None)
