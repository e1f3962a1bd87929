"""Many kills: drivers, workers and raylets, by SIGKILL and SIGTERM, at random moments of many runs, then the books.

    python -m tests.crash.kills --kills 100 --seed 1            (or: make test-kills KILLS=100)

Up to three drivers share a folder. After every round one driver completes the sweep: every trial must have one result,
and the numbers of an undisturbed run. Rounds go on until so many kills are made; a table of them is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dse.results.record import FAILED, Record
from dse.results.store import Store
from dse.run.engine import run_sweep
from dse.sweep import load_sweep
from dse.train.options import RunOptions
from tests.crash import driver
from tests.crash.test_driver import PATIENCE, program, running, session, written
from tests.crash.test_kills import NEEDED, SERVER, start
from tests.records import content

_GRID = "grid: {training.lr: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]}\n"
_BASE = """
name: NAME
tasks: [{regression: {training: {steps: 40, batch: 32}}}]
recipes: [bf16, mxfp4, nvfp4]
seeds: 6
"""
_SHORT = "baseline: {recipe: bf16, training.lr: 1e-3}\n"
PLAIN = _BASE.replace("seeds: 6", "seeds: 16")
LONG = _BASE.replace("steps: 40", "steps: 2000").replace("seeds: 6", "seeds: 2")
HALVED = (
    _BASE.replace("seeds: 6", "seeds: 2")
    + _SHORT
    + _GRID
    + "search: {method: grid, halving: {eta: 2, rungs: [0.25, 0.5]}}\n"
)
SEARCHED = (
    _BASE.replace("seeds: 6", "seeds: 2")
    + _SHORT
    + ("search: {method: tpe, trials: 12, seed: 3}\ngrid: {training.lr: {log: [1e-4, 1e-2]}}\n")
)
DRIVER, WORKER, RAYLET = "driver", "worker", "raylet"
PROGRAMS = {WORKER: ("ray::Actor", "ray::Resource", "ray::Config"), RAYLET: ("raylet",)}
"""What the processes of a driver call themselves."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scene:
    """``share`` of the kills; ``drivers``: at most, on one folder."""

    name: str
    sweep: str
    executor: str
    drivers: int
    victims: tuple[str, ...]
    share: float


SCENES = (
    Scene("local", PLAIN, "local", 3, (DRIVER,), 0.25),
    Scene("local-halving", HALVED, "local", 3, (DRIVER,), 0.1),
    Scene("local-search", SEARCHED, "local", 2, (DRIVER,), 0.1),
    Scene("local-long", LONG, "local", 2, (DRIVER,), 0.1),
    Scene("ray", PLAIN, "ray", 2, (DRIVER, WORKER, WORKER, RAYLET), 0.2),
    Scene("ray-halving", HALVED, "ray", 1, (DRIVER, WORKER, RAYLET), 0.1),
    Scene("tune", PLAIN, "tune", 1, (DRIVER, WORKER, RAYLET), 0.15),
)


@dataclass
class Books:
    """What was killed, and what came of it; ``slowest``: seconds from SIGTERM to a driver's end."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    blamed: int = 0
    slowest: float = 0.0

    def add(self, other: Books) -> None:
        self.kills += other.kills
        for name in ("trials", "lost", "doubled", "changed", "blamed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest = max(self.slowest, other.slowest)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kinds}); {self.trials} trials: {self.lost} lost, {self.doubled} doubled, "
            f"{self.changed} with other numbers, {self.blamed} blamed for a killed worker and run again; "
            f"at most {self.slowest:.1f} s from SIGTERM to a driver's end"
        )


def play(scene: Scene, folder: Path, kills: int, chance: random.Random, say: Say = print) -> Books:
    """Rounds of a scene until ``kills`` are made."""
    file = folder / f"{scene.name}.yaml"
    file.write_text(scene.sweep.replace("NAME", scene.name), encoding="utf-8")
    undisturbed = Store(folder / "undisturbed")
    run_sweep(load_sweep(file), undisturbed, RunOptions("local", track=False, progress=False))
    expected = {record.uid: content(record, attempt=0) for record in undisturbed.records()}
    books, number = Books(), 0
    while books.kills.total() < kills:
        number += 1
        results, before = folder / f"round{number}", books.kills.total()
        while books.kills.total() < kills and not _complete(file, results):
            with ExitStack() as stack:
                lives = [
                    stack.enter_context(_life(scene, file, results)) for _ in range(chance.randint(1, scene.drivers))
                ]
                _kill(scene, lives, results, kills, books, chance)
        _finish(scene, file, results)
        _check(file, results, expected, books)
        say(f"{scene.name}, round {number}: {books.kills.total() - before} kills; so far {books}")
    return books


class _Forked:
    """A driver that is forked from a server that has imported everything, with the methods of a ``Popen``."""

    def __init__(self, file: Path, results: Path) -> None:
        self._process = start(driver.drive, load_sweep(file), results, results.with_suffix(".log"))
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return None if self._process.is_alive() else self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self.poll()


@contextmanager
def _life(scene: Scene, file: Path, results: Path) -> Iterator[Any]:
    if scene.executor == "local":
        life = _Forked(file, results)
        yield life
        if life.poll() is None:
            os.kill(int(life.pid or 0), signal.SIGKILL)
        return
    os.environ["DSE_TEST_EXECUTOR"] = scene.executor
    with running([str(Path(__file__).with_name("driver.py")), str(file), str(results)], results) as (process, _):
        yield process


def _kill(scene: Scene, lives: Sequence[Any], results: Path, kills: int, books: Books, chance: random.Random) -> None:
    """Kills something of one driver after the other, until none lives or all kills are made."""
    end = time.monotonic() + 5 * PATIENCE
    while any(life.poll() is None for life in lives):
        assert time.monotonic() < end, results.with_suffix(".log").read_text(encoding="utf-8")
        if books.kills.total() >= kills:
            for life in lives:
                assert life.wait(PATIENCE) is not None
            return
        _wait_for_progress(lives, results, chance)
        life = chance.choice(lives)
        if life.poll() is not None:
            continue
        victim, number = chance.choice(scene.victims), chance.choice((signal.SIGKILL, signal.SIGTERM))
        pid = _pid(life, victim, chance)
        if pid is None:
            continue
        asked = time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            books.kills[f"{victim} {signal.Signals(number).name}"] += 1
        if victim == DRIVER:
            life.wait(PATIENCE)
            if number == signal.SIGTERM:
                books.slowest = max(books.slowest, time.monotonic() - asked)


def _wait_for_progress(lives: Sequence[Any], results: Path, chance: random.Random) -> None:
    """Until a few more results are there, or for a random time; often a driver is killed before its first one."""
    goal, end = len(written(results)) + chance.randint(1, 6), time.monotonic() + chance.choice((1.0, 4.0, 60.0, 60.0))
    while time.monotonic() < end and len(written(results)) < goal and any(life.poll() is None for life in lives):
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.3))


def _pid(life: Any, victim: str, chance: random.Random) -> int | None:
    if victim == DRIVER:
        return int(life.pid)
    own = [pid for pid in session(life.pid) if program(pid).startswith(PROGRAMS[victim])]
    return chance.choice(own) if own else None


def _complete(file: Path, results: Path) -> bool:
    """Whether a driver would have nothing to do; of a search nobody can tell but a driver."""
    sweep = load_sweep(file)
    if sweep.search.needs_results or sweep.search.halving:
        return False
    return Store(results).done().keys() >= {cell.uid for cell in sweep.cells}


def _finish(scene: Scene, file: Path, results: Path) -> None:
    """One driver that nobody disturbs; the trials that were blamed for killed workers run once more."""
    executor = "tune" if scene.executor == "tune" else "local"
    for retry in ("none", "failed"):
        run_sweep(
            load_sweep(file),
            Store(results),
            RunOptions(executor, retry=retry, track=False, progress=False, compact=False),
        )


def _check(file: Path, results: Path, expected: dict[str, str], books: Books) -> None:
    blamed = [record for record in written(results) if record.status == FAILED]
    kept = [record for record in written(results) if record.status != FAILED]
    found = {record.uid: content(record, attempt=0) for record in Store(results).records()}
    books.trials += len(expected)
    books.blamed += len(blamed)
    books.lost += len(expected.keys() - found.keys())
    books.doubled += sum(count - 1 for count in Counter(map(_leg, kept)).values())
    books.changed += sum(found[uid] != own for uid, own in expected.items() if uid in found)
    books.changed += len(found.keys() - expected.keys())


def _leg(record: Record) -> tuple[str, str, Any]:
    return record.uid, record.status, record.stopped.get("step")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--scene", action="append", choices=[scene.name for scene in SCENES])
    given = parser.parse_args(arguments)
    scenes = [scene for scene in SCENES if not given.scene or scene.name in given.scene]
    share = sum(scene.share for scene in scenes)
    books, begun = Books(), time.monotonic()
    SERVER.set_forkserver_preload(NEEDED)
    print(f"seed {given.seed}", flush=True)
    for scene in scenes:
        with tempfile.TemporaryDirectory(prefix="dse-kills-") as folder:
            chance = random.Random(f"{given.seed} {scene.name}")
            count = -(-given.kills * scene.share // share)
            books.add(play(scene, Path(folder), int(count), chance, lambda line: print(line, flush=True)))
    print(f"seed {given.seed}, {time.monotonic() - begun:.0f} s: {books}")
    return int(books.lost + books.doubled + books.changed > 0)


if __name__ == "__main__":
    sys.exit(main())
