"""Signals: a run ends in order, in time, with an exit code that says so, and the caller's handlers are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dse.commands.follow_up import same_command
from dse.results.record import Record
from dse.results.store import Store
from dse.run import interrupt
from dse.run.engine import run_sweep
from dse.run.executors.base import grace_of
from dse.run.interrupt import SIGNALS, Stopped, graceful, handlers_kept, shielded
from dse.sweep import load_sweep
from dse.train import loop
from dse.train.context import TrainContext
from dse.train.options import RunOptions
from dse.trial import Trial

LONG = """
name: long
tasks: [{regression: {training: {steps: 300000, batch: 8}}}]
recipes: [bf16]
seeds: 1
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_long_trial_leaves_a_checkpoint(number: signal.Signals, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "long.yaml").write_text(LONG, encoding="utf-8")
    real, handlers = loop.run_pack, [signal.getsignal(number) for number in SIGNALS]

    def signaled(trials: Sequence[Trial], setup: TrainContext, configs: Sequence[str]) -> list[Record]:
        def on_step(step: int, steps: int) -> None:
            if step == 5:
                os.kill(os.getpid(), number)
            assert setup.on_step is not None
            setup.on_step(step, steps)

        return real(trials, replace(setup, on_step=on_step), configs)

    monkeypatch.setattr(loop, "run_pack", signaled)
    start, store = time.monotonic(), Store(tmp_path / "results")
    summary = run_sweep(load_sweep(tmp_path / "long.yaml"), store, RunOptions("local", track=False, progress=False))
    assert time.monotonic() - start < interrupt.GRACE
    assert (summary.stopped, summary.left, summary.exit_code) == (True, 1, 128 + number)
    assert len(list(store.folder.glob("checkpoints/*/step-*.pt"))) == 1
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_what_does_not_end_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process would be killed anyway; what is closed in order until then is worth more."""
    monkeypatch.setattr(interrupt, "_LIMIT", 0.05)

    def hang() -> None:
        with graceful() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.is_set()
            assert 0 < (grace_of(stop) or 0) <= interrupt.PACK
            threading.Event().wait(20)

    with pytest.raises(Stopped, match="SIGTERM") as stopped:
        hang()
    assert stopped.value.number == signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_second_signal_stops_at_once() -> None:

    def interrupted_twice() -> None:
        with graceful() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert (stop.number, grace_of(stop)) == (signal.SIGINT, None)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()


def test_under_nohup_a_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    seen = list[bool]()

    def work() -> None:
        with graceful() as stop, handlers_kept(), shielded():
            seen.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_handlers_of_a_library_go() -> None:
    with graceful() as stop:
        with handlers_kept():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as ray.init does
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_shielded_processes_live_on() -> None:
    code = "import os, signal; [os.kill(os.getpid(), n) for n in (signal.SIGTERM, signal.SIGHUP)]; print('lives')"
    with shielded():
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, encoding="utf-8"
        )
    assert child.stdout == "lives\n"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_the_command_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert same_command() == "the same command"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/dse", "run", "a b.yaml", "--results", "r"])
    assert same_command() == "dse run 'a b.yaml' --results r"
    monkeypatch.setattr(sys, "argv", ["/somewhere/dse/__main__.py", "run", "a.yaml"])
    assert same_command() == "python -m dse run a.yaml"
