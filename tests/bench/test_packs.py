"""The benchmarks run on the CPU: their rows have the promised structure. No time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dse.bench import matrix, precompile, processes
from dse.bench.bench_jobs import AheadJob, BenchJob, BenchSettings, missing
from dse.bench.bench_variants import VARIANTS
from dse.bench.measurements import Measurement, read
from dse.bench.models import COMPARED
from dse.bench.packs import jobs, main, measure_packs
from dse.bench.ratios import ratios
from dse.bench.sweep import measure_sweep
from dse.bench.timed_packs import MIX, Autocast, Running, trials
from dse.errors import UserError
from dse.kernels.availability import Gpu
from dse.kernels.kernel_jobs import KernelJob
from dse.pack.backend import uncovered
from dse.recipes import RECIPES


def check(rows: list[Measurement]) -> None:
    """Positive finite numbers, and a reason where there is none."""
    assert rows
    for row in rows:
        assert row.figure, row
        assert row.variant, row
        assert row.unit, row
        assert row.target is None, "targets are a GPU's"
        if row.value is None:
            assert row.note.startswith("not measured"), row
            continue
        for number in (row.value, row.floor, row.ratio):
            assert number is None or (math.isfinite(number) and number > 0), row
        if row.ratio is not None and row.floor is not None and row.unit == "model-steps/s":
            assert row.ratio == pytest.approx(row.value / row.floor), row


def test_packs_of_a_model_and_its_ratios(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    only = ("pack", "bf16", "autocast", "eager", "peers", "widths", "fp4")
    jobs_of_mlp = ["--device", "cpu", "--quick", "--models", "mlp", "--only", *only, "--activations", "fp32"]
    assert main([*jobs_of_mlp, "--out", str(out)]) == 0
    rows = read(out)
    check(rows)
    measured = {row.variant for row in rows if row.figure == "mlp" and row.value}
    assert measured == {
        "pack of 4",
        "pack of 4, bf16",
        "pack of 4, autocast",
        "pack of 4, nvfp4",
        "pack of 2",
        "eager",
    }
    compared = {row.variant for row in rows if row.figure == "mlp ratio"}
    assert {"pack of 4 / eager", "pack of 4 / bf16", "pack of 4, nvfp4 / autocast"} <= compared
    assert "microxcaling" in {row.variant for row in rows if row.value is None}
    document = json.loads(out.read_text(encoding="utf-8"))
    assert {"command", "device", "date", "versions", "rows"} <= set(document)
    assert "kernels no" in rows[0].note
    assert "graph no" in rows[0].note


@pytest.mark.parametrize("model", [name for name in COMPARED if name != "mlp"])
def test_every_model_trains_in_a_pack_plain_and_under_autocast(model: str) -> None:
    for kind in (Running, Autocast):
        running = kind(trials(COMPARED[model](True), 2, ("nvfp4", "bf16")), "cpu")
        running.step()
        assert running.program.log[0].isfinite().all()
        assert "diverged" not in running.note()


def test_the_autocast_model_trains_as_the_pack_does() -> None:
    members = trials(COMPARED["mlp"](True), 2, ("bf16",))
    packed, plain = Running(members, "cpu"), Autocast(members, "cpu")
    for _ in range(4):
        packed.step()
        plain.step()
    assert (packed.program.log[:4] - plain.program.log[:4]).abs().max() < 0.05
    assert (packed.program.pack.flat - plain.program.pack.flat).abs().max() < 0.01


def test_a_training_that_is_over_starts_again() -> None:
    running = Running(trials(COMPARED["mlp"](True), 1), "cpu")
    running.program.steps = 3
    for _ in range(4):
        running.step()
    assert running.program.pack.clock[0, 1] == 1


@pytest.mark.slow
def test_two_processes_train_at_once() -> None:
    found = processes.rates(processes.Crowd("mlp", True, "cpu", (1, 2), 0.02))
    assert set(found.rates) == {1, 2}
    assert all(rate > 0 for rate in found.rates.values())


@pytest.mark.slow
def test_compiled_processes_wait_for_their_turn() -> None:
    settings = BenchSettings(quick=True, ahead=1, compiled_crowds=(2,))
    todo = [job for name in ("compiled_processes:mlp", "plain:mlp") for job in matrix._of(settings, name)]
    assert precompile.compile_ahead(settings, todo) > 0
    rows = [row for job in todo for row in job.measure()]
    assert [row.variant for row in rows] == ["2 compiled processes", "compiled bf16"]
    assert all(row.value for row in rows)
    assert "at step 1" in rows[1].note


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_model"):
        processes.rates(processes.Crowd("no_such_model", True, "cpu", (1,), 0.02))


def test_a_failing_variant_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = BenchJob("mlp", ("pack of 4, bf16",), lambda: [1 / 0])  # type: ignore[list-item]
    monkeypatch.setitem(VARIANTS, "bf16", lambda s, model: iter([failing]))
    rows = measure_packs(BenchSettings(quick=True, activations=("fp32",)), ["mlp"], ["pack", "bf16"], 60)
    check(rows)
    assert [row.value is None for row in rows if row.figure == "mlp"] == [False, True]
    assert "ZeroDivisionError" in rows[1].note


@pytest.mark.slow
def test_a_lost_device_costs_one_process_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(device: str) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(matrix, "wait", lost)
    out = tmp_path / "rows.json"
    words = ["--device", "cpu", "--quick", "--models", "mlp", "--activations", "fp32", "--only", "pack", "bf16"]
    assert main([*words, "--out", str(out)]) == 0
    rows = read(out)
    check(rows)
    assert [row.variant for row in rows] == ["pack of 4", "pack of 4, bf16", "pack of 4 / bf16"]


def test_a_peer_is_imported_from_its_path_and_trains(tmp_path: Path) -> None:
    """A stand-in with the signatures of microxcaling (github.com/microsoft/microxcaling, mx/linear.py, mx/specs.py)."""
    place = tmp_path / "mx"
    place.mkdir()
    (place / "__init__.py").write_text("from .linear import Linear\n", encoding="utf-8")
    (place / "specs.py").write_text(
        "def finalize_mx_specs(specs, early_exit=True):\n"
        "    assert specs['w_elem_format'] == 'fp4_e2m1' and specs['scale_bits'] == 8\n"
        "    return specs\n",
        encoding="utf-8",
    )
    (place / "linear.py").write_text(
        "import torch\n"
        "class Linear(torch.nn.Linear):\n"
        "    def __init__(self, in_features, out_features, bias=True, mx_specs=None, name=None):\n"
        "        super().__init__(in_features, out_features, bias)\n"
        "        assert mx_specs['block_size'] == 32\n",
        encoding="utf-8",
    )
    before = list(sys.path)
    try:
        settings = BenchSettings(quick=True, peers={"microxcaling": str(tmp_path)})
        rows = measure_packs(settings, ["mlp"], ["peers", "pack"], 60)
    finally:
        for name in ("mx", "mx.specs", "mx.linear"):
            sys.modules.pop(name, None)
    check(rows)
    assert sys.path == before
    values = {row.variant: row.value for row in rows}
    assert values["microxcaling"]
    assert "pack of 4 / microxcaling" in values
    assert values["torchao mxfp4"] is None


def test_what_is_compiled_ahead() -> None:
    settings = BenchSettings(activations=("fp32",))
    every = jobs(("mlp", "gpt128"), (), settings)
    ahead = {job.ahead for name in every for job in matrix._of(settings, name)}
    assert {AheadJob("mlp", MIX, width=64), AheadJob("mlp", ("bf16",), width=64)} <= ahead
    crowd = processes.Crowd("gpt128", False, "cpu", (1,), settings.seconds, "compiled")
    assert {AheadJob("mlp", MIX, width=1), AheadJob("gpt128", crowd=crowd)} <= ahead


def test_kernels_of_packs_are_listed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    asked: list[str] = []

    def known(job: KernelJob) -> bool:
        asked.append(job.kernel.name)
        return True

    monkeypatch.setattr(KernelJob, "is_compiled", known)
    monkeypatch.setattr(Gpu, "of", lambda device: Gpu((9, 0), 132))
    settings = BenchSettings(quick=True, ahead=2)
    todo = list(matrix._of(settings, "bf16:mlp"))
    precompile.compile_ahead(settings, todo)
    assert not asked, "a CPU has no kernels"
    monkeypatch.setattr(precompile, "use_kernels", lambda device: True)
    precompile.compile_ahead(settings, todo)
    assert "tile_kernel" in asked


def test_nothing_is_begun_when_the_time_is_used_up() -> None:
    rows = measure_packs(BenchSettings(quick=True, activations=("fp32",)), ["mlp"], ["pack", "eager"], 0)
    assert [row.value for row in rows] == [None, None]


def test_jobs_come_in_the_order_of_importance() -> None:
    every = jobs((), (), BenchSettings())
    assert every[: len(COMPARED)] == [f"pack:{model}" for model in COMPARED]
    assert [job for job in every if job.startswith("processes")] == ["processes:gpt128"]
    assert jobs((), ("eager", "processes:mlp"), BenchSettings())[-1] == "processes:mlp"
    with pytest.raises(UserError, match="gpt128"):
        jobs(("gpt12",), (), BenchSettings())
    with pytest.raises(UserError, match="eager"):
        jobs((), ("eagr",), BenchSettings())


def test_ratios_and_their_targets() -> None:
    rates = {"pack of 64": 1500.0, "pack of 256": 3000.0, "eager": 10.0, "2 eager processes": 15.0}
    rates |= {"16 eager processes": 100.0, "pack of 64, bf16": 2100.0, "pack of 64, nvfp4": 1400.0}
    rows = [Measurement("gpt128", name, rate, "model-steps/s") for name, rate in rates.items()]
    found = {row.variant: row for row in ratios([*rows, missing("gpt128", "microxcaling", "why")])}
    assert found["pack of 64 / eager"].ratio == 150
    assert found["pack of 64 / eager"].target == 150
    assert found["pack of 256 / 16 eager processes"].ratio == 30
    assert found["pack of 64 / bf16"].ratio == pytest.approx(1.4)
    assert found["pack of 64, nvfp4 / bf16"].ratio == pytest.approx(1.5)
    assert found["pack of 64 / bf16"].better == "lower"
    assert "reached" in found["pack of 64 / bf16"].line()


def test_the_mix_is_covered_by_the_kernels() -> None:
    assert [name for name in MIX if uncovered(RECIPES[name])] == []


def test_a_sweep_against_its_packs() -> None:
    rows = measure_sweep("cpu", quick=True)
    check(rows)
    assert rows[0].ratio is not None
    assert rows[0].ratio > 1
    assert "24 ok" in rows[0].note


def test_the_measuring_modules_need_torch_and_numpy_only() -> None:
    names = [n for n in ("packs", "sweep", "kernels") if find_spec(f"dse.bench.{n}")]
    code = f"import sys, {', '.join(f'dse.bench.{name}' for name in names)}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    heavy = {"rich", "polars", "pandas", "ray", "mlflow", "typer", "pydantic", "scipy", "sklearn", "ruamel", "optuna"}
    assert not heavy & set(found)


def test_a_pack_states_the_loss_that_a_compiled_peer_states() -> None:
    """Of the same seed and step, in the training's first round alone."""
    running = Running(trials(COMPARED["mlp"](True), 2, ("bf16",)), "cpu")
    for _ in range(50):
        running.step()
    assert f"loss {float(running.program.log[49, 0]):.3f} at step 50" in running.note()
    assert running.program.pack.trials[0].seed == 0
    running.program.steps = 50
    running.step()
    assert "at step 50" not in running.note()
