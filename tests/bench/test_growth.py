"""Growth, the gallery and a trial alone: their rows, what is resumed, and the ratios made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dse.bench.bench_jobs import BenchSettings
from dse.bench.bench_variants import TABLES
from dse.bench.gallery_packs import recipes
from dse.bench.growth import WIDTHS, gemm_rate, growth
from dse.bench.measurements import Measurement, read
from dse.bench.models import GROWTH, SUBJECTS, linear_features, linear_parameters
from dse.bench.packs import jobs, main
from dse.bench.ratios import ratios
from dse.recipes import RECIPES

QUICK = BenchSettings().small()


def test_what_a_rate_means_for_the_hardware() -> None:
    job = next(job for job in growth(QUICK, "lm-0.5M") if "pack of 2" in job.variants[0])
    (row,) = job.measure()
    subject = QUICK.subject("lm-0.5M")
    assert row.value
    assert subject.tokens() == 2 * 64
    assert row.facts["tokens/s"] == pytest.approx(row.value * subject.tokens())
    assert linear_parameters(subject) == 4 * 32**2 + 3 * 32 * 96 + 32 * 96
    assert row.facts["TFLOP/s"] == pytest.approx(6e-12 * linear_parameters(subject) * row.facts["tokens/s"])
    assert row.facts["of GEMM"] == pytest.approx(row.facts["TFLOP/s"] / gemm_rate("cpu", True))


def test_sizes_are_those_of_the_task() -> None:
    assert set(WIDTHS) == set(GROWTH)
    assert SUBJECTS["lm-60M"](False).tokens() == 64 * 512
    assert linear_features(SUBJECTS["lm-60M"](False)) == 12 * (8 * 640 + 3 * (640 + 1728)) + 640 + 96
    assert linear_parameters(SUBJECTS["lm-60M"](False)) == 12 * (4 * 640**2 + 3 * 640 * 1728) + 640 * 96


def test_the_gallery_is_whole() -> None:
    assert set(recipes()) == set(RECIPES)
    assert recipes()[0] == "nvfp4"


def test_the_measurements_of_the_tables_exist_and_keep_their_order() -> None:
    assert jobs((), TABLES, BenchSettings()) == list(TABLES)
    assert not any(name.startswith(("growth", "gallery", "trial")) for name in jobs((), (), BenchSettings()))


def test_what_is_known_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    words = ["--device", "cpu", "--quick", "--out", str(out), "--activations", "fp32", "--only", "bf16", "trial"]
    assert main(words) == 0
    first = read(out)
    assert [row.variant for row in first] == ["pack of 4, bf16", "nvfp4", "bf16", "nvfp4 / bf16"]
    capsys.readouterr()
    assert main([*words, "eager:mlp", "--resume"]) == 0
    second = read(out)
    assert [row.variant for row in second] == ["pack of 4, bf16", "nvfp4", "bf16", "eager", "nvfp4 / bf16"]
    assert second[:3] == first[:3]
    assert capsys.readouterr().out.count("\n") == 2


def test_ratios_to_the_best_compiled_program_come_first() -> None:
    rates = {"eager": 5.0, "pack of 64": 3300.0, "compiled nvfp4": 600.0, "8 compiled processes": 1000.0}
    rates |= {"pack of 64, nvfp4": 3000.0, "pack of 64, nvfp4, bf16 activations": 6000.0}
    rates |= {"pack of 64, autocast": 6600.0, "pack of 64, bf16, bf16 activations": 6300.0}
    found = ratios([Measurement("gpt128", name, rate, "model-steps/s") for name, rate in rates.items()])
    assert found[0].variant == "pack of 64, nvfp4 / 8 compiled processes"
    by_name = {row.variant: row for row in found}
    best = by_name["pack of 64, nvfp4, bf16 activations / 8 compiled processes"]
    assert (best.ratio, best.target, best.better) == (6.0, 6.0, "higher")
    step = by_name["pack of 64, nvfp4, bf16 activations / autocast"]
    assert (step.ratio, step.target, step.better) == (pytest.approx(1.1), 1.15, "lower")
    assert by_name["pack of 64, nvfp4, bf16 activations / bf16, bf16 activations"].ratio == pytest.approx(1.05)


def test_ratios_of_growth_the_gallery_and_a_trial() -> None:
    end = ", bf16 activations"
    rates = {"compiled bf16": 26.0, f"pack of 2, nvfp4{end}": 18.0, f"pack of 4, nvfp4{end}": 20.0}
    rates |= {f"pack of 1, quartet2_sr{end}": 5.0, f"pack of 4, quartet2_sr{end}": 15.0}
    rows = [Measurement("lm-60M", name, rate, "model-steps/s") for name, rate in rates.items()]
    own = {"nvfp4": 3000.0, "if4": 2000.0, "quartet": 2500.0, "whole gallery, 84 members": 2400.0}
    own |= {"nvfp4, 84 members": 3200.0}
    rows += [Measurement("lm-60M", f"pack of 1, nvfp4{end}", 15.0, "model-steps/s", memory=12.0)]
    rows[0] = replace(rows[0], memory=10.0)
    rows += [Measurement("gpt128 gallery", name, rate, "model-steps/s") for name, rate in own.items()]
    rows += [Measurement("lm tiny trial", name, t, "s") for name, t in (("nvfp4", 3.0), ("bf16", 2.0))]
    found = {row.variant: row for row in ratios(rows)}
    grown = found[f"pack of 4, nvfp4{end} / compiled bf16"]
    assert (grown.ratio, grown.target) == (pytest.approx(1.3), 1.3)
    memory = found[f"memory of pack of 1, nvfp4{end} / compiled bf16"]
    assert (memory.ratio, memory.target, memory.better) == (1.2, 1.5, "lower")
    assert found[f"pack of 4, quartet2_sr{end} / nvfp4"].ratio == 0.75
    assert found["slowest of 3: if4 / nvfp4"].ratio == pytest.approx(2 / 3)
    assert found["whole gallery, 84 members / nvfp4"].ratio == 0.75
    assert found["nvfp4 / bf16"].ratio == 1.5
    on_a_cpu = {row.variant: row.target for row in ratios(rows, "cpu") if row.target}
    assert on_a_cpu == {"nvfp4 / bf16": 1.5}
    assert not any(row.target for row in ratios(rows, "cpu", quick=True))


def test_a_product_is_timed() -> None:
    assert 0 < gemm_rate("cpu", True) < 10
    assert torch.get_default_dtype() == torch.float32
