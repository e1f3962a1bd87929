"""Kernels are listed without a GPU, and compiled by processes into the cache in which their launches look."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from dse.bench.models import COMPARED
from dse.bench.timed_packs import trials
from dse.kernels import available, compile_pool
from dse.kernels.availability import Gpu, lies_on_gpu
from dse.kernels.compile_pool import Compiled, CompilePool
from dse.kernels.kernel_jobs import KernelJob, KernelName
from dse.kernels.philox import words
from dse.kernels.recording import recording
from dse.numerics.recipe import override
from dse.numerics.techniques.schedules import Switch
from dse.pack import compile_ahead as ahead
from dse.pack.grouping import member_order
from dse.pack.kernel_list import list_kernels
from dse.recipes import RECIPES
from dse.train import warmup

HOPPER = Gpu((9, 0), 132)
MOST = 500
"""Kernels of a step and an evaluation of a pack of all recipes, at most: 487 with 65 recipes."""


class Driver:
    """Of a GPU that is not there."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def word_jobs() -> list[KernelJob]:
    """The kernel that draws a pack's batches."""
    found: list[KernelJob] = []
    with recording(HOPPER, found.append):
        for members in (2, 3):
            words(torch.zeros(members, 2, dtype=torch.int64, device="meta"), 64, 0, 8 << 16)
    return found


def test_a_launch_finds_what_a_process_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (job,) = word_jobs()
    nowhere = replace(job, kernel=KernelName(job.kernel.module, "no_kernel"))
    vars(nowhere)["key"] = "none"
    assert not job.is_compiled()
    with CompilePool(1) as pool:
        monkeypatch.setattr(KernelJob, "is_compiled", lambda own: False)
        pool.submit(nowhere)
        for _ in range(2):
            pool.submit(job)
        assert pool.wait(120)
        state = pool.state
    assert (state.kernels, state.done) == (2, 1)
    assert "no_kernel" in state.failed[0]
    monkeypatch.undo()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert job.is_compiled()

    hits: list[bool] = []
    launch, kernels = JITFunction.run, list[Any]()
    monkeypatch.setattr(driver, "_active", Driver())
    monkeypatch.setattr(
        JITFunction, "run", lambda f, *a, grid, warmup, **k: kernels.append(launch(f, *a, grid=grid, warmup=True, **k))
    )
    monkeypatch.setattr(knobs.compilation, "listener", lambda **facts: hits.append(facts["cache_hit"]))
    words(torch.zeros(2, 2, dtype=torch.int64), 64, 0, 8 << 16)
    assert hits == [True]
    assert kernels[0].hash == job.key


def test_nothing_is_recorded_twice_at_once() -> None:
    run, x = JITFunction.run, torch.empty(1, device="meta")
    with recording(HOPPER, print):
        assert available()
        assert lies_on_gpu(x)
        with pytest.raises(RuntimeError, match="already"), recording(HOPPER, print):
            pass
    assert JITFunction.run is run
    assert not lies_on_gpu(x)


def kernels(recipes: tuple[str, ...], seeds: int) -> set[str]:
    """Of a pack of one layer of a transformer."""
    subject, jobs = COMPARED["gpt128"](True), list[KernelJob]()
    members = trials(subject, seeds * len(recipes), recipes)
    list_kernels([members[i] for i in member_order(members, True)], subject.task.load(), HOPPER, jobs.append)
    found = {job.key for job in jobs}
    assert len(found) == len(jobs), "each once"
    return found


@pytest.mark.slow
def test_kernels_of_a_pack_of_all_recipes() -> None:
    assert len(kernels(tuple(RECIPES), 2)) < MOST


def test_kernels_of_packs() -> None:
    few = ("nvfp4", "mxfp4_rht_sr")
    assert kernels(few, 2) == kernels(few, 3), "further members cost nothing"


def test_what_a_schedule_switches_to_is_listed() -> None:
    own = RECIPES["mlperf_mxfp4_healing"]
    assert isinstance(own.schedule, Switch)
    subject = COMPARED["gpt128"](True)
    members = [replace(trial, recipe=own) for trial in trials(subject, 2, ("mxfp4",))]
    both, first = list[KernelJob](), list[KernelJob]()
    list_kernels(members, subject.task.load(), HOPPER, both.append)
    members = [replace(trial, recipe=replace(own, schedule=None)) for trial in members]
    list_kernels(members, subject.task.load(), HOPPER, first.append)
    assert {job.key for job in both} > {job.key for job in first}


def test_kernels_have_one_key_in_all_processes() -> None:
    """Whichever a process asks for first: by itself Triton would give a caller another key after its callees."""
    names = ["quantize.quantize_kernel", "peaks.peak_kernel"]
    found = set()
    for order in (names, names[::-1]):
        read = [f"{name}.cache_key" for name in order]
        code = "\n".join(["from dse.kernels.device import peaks, quantize", *read, f"print({', '.join(sorted(read))})"])
        found.add(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_a_pack_that_cannot_be_listed_is_compiled_by_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise ValueError("no numbers\nhere")

    monkeypatch.setattr(ahead, "list_kernels", fails)
    subject = COMPARED["mlp"](True)
    found = ahead.compile_ahead([(trials(subject, 1), None)], HOPPER)
    assert (found.kernels, found.packs, found.problems) == (0, 0, ("ValueError: here",))


def test_packs_of_one_kind_are_seen_to_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their seeds; the first problem is said."""
    asked: list[int] = []

    def few(packs: Any, gpu: Gpu, say: ahead.Say) -> ahead.Ahead:
        asked.append(len(packs[0][0]))
        return ahead.Ahead(3, 1.0, 0, ("the compiler has left",))

    monkeypatch.setattr(warmup, "compile_ahead", few)
    monkeypatch.setattr(warmup.Gpu, "of", lambda device: HOPPER)
    monkeypatch.setattr(warmup._Process, "known", set())
    monkeypatch.setattr(warmup._Process, "told", False)
    said: list[str] = []
    subject = COMPARED["mlp"](True)
    for device, width, seed in (("cpu", 2, 0), ("cuda", 2, 0), ("cuda", 2, 7), ("cuda", 3, 0)):
        members = tuple(replace(trial, seed=seed + trial.seed) for trial in trials(subject, width, ("nvfp4",)))
        pack: Any = SimpleNamespace(trials=members, device=torch.device(device))
        warmup.compile_step(SimpleNamespace(pack=pack, data=None, use_kernels=True), said.append)  # type: ignore[arg-type]
    assert asked == [2, 3]
    assert said == ["not all kernels were compiled ahead, others will be as they are needed: the compiler has left"]


def test_processes_that_cannot_start_or_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their kernels are left to the launches; nobody waits for them."""
    (job,) = word_jobs()
    monkeypatch.setattr(KernelJob, "is_compiled", lambda own: False)
    for program, why in (("/no/such/python", "FileNotFoundError"), ("/bin/true", "ended|Broken pipe")):
        monkeypatch.setattr(compile_pool.sys, "executable", program)
        with CompilePool(1) as pool:
            pool.submit(job)
            assert pool.wait(60)
            assert re.search(why, pool.state.failed[0])


def test_a_kernel_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its process and what that has started; the next kernel gets another process, and the end waits for none."""
    (job,) = word_jobs()
    endless, pids = tmp_path / "endless", tmp_path / "pids"
    endless.write_text(f"#!/bin/sh\nsleep 1000 & echo $! >> {pids}\nwait\n", encoding="utf-8")
    endless.chmod(0o700)
    others = [replace(job, kernel=KernelName(job.kernel.module, f"other{i}")) for i in range(2)]
    for i, own in enumerate((job, *others)):
        vars(own)["key"] = str(i)
    monkeypatch.setattr(KernelJob, "is_compiled", lambda own: False)
    monkeypatch.setattr(compile_pool.sys, "executable", str(endless))
    with CompilePool(1, limit=0.4) as pool:
        for own in (job, others[0]):
            pool.submit(own)
        assert not pool.wait(0.1)
        longest = pool.state.longest
        assert longest is not None
        assert longest[0] in (job.kernel.name, "other0")
        assert pool.wait(60)
        assert pool.state.longest is None
        assert [line.split(": ")[1] for line in pool.state.failed] == ["given up after 0.4 s"] * 2
    with CompilePool(1) as pool:
        pool.submit(others[1])
        while len(pids.read_text(encoding="utf-8").split()) < 3:
            assert not pool.wait(0.02)
    for pid in map(int, pids.read_text(encoding="utf-8").split()):
        assert not running(pid)


def running(pid: int) -> bool:
    """Whether a process does anything; one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.01)
    return True


def test_a_line_names_what_takes_long() -> None:
    said = ahead._progress(Compiled(45, 43, ("one: refused",), 2.0, ("slow_kernel", 120.0)))
    assert said == (
        "compiling 45 kernels: 43 done, 1 given up, about 2 s left; slow_kernel for 2 min (given up after 5 min)"
    )
    assert ahead._progress(Compiled(45, 43, (), 2.0, ("kernel", 9.0))).endswith(": 43 done, about 2 s left")


def test_trials_after_training_need_the_kernels_of_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(warmup, "compile_ahead", lambda packs, *a, **k: seen.extend(packs) or ahead.Ahead(0, 0, 0, ()))
    one, other = trials(COMPARED["mlp"](True), 2, ("mxfp4",))
    own = [replace(one, recipe=override(one.recipe, "post", method)) for method in ("rtn", "gptq")]
    warmup.compile_packs([own, [one, other]], None, HOPPER, 1, print)
    assert [pack for pack, _ in seen] == [[one.baseline()], [one, other]]
