"""``save: weights``: every trained model as a file of safetensors, found again by name, whatever pack it trained in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dse import load_model
from dse.commands.sweeps import run
from dse.commands.why import why
from dse.errors import UserError
from dse.results.record import OK
from dse.results.store import Store
from dse.sweep import load_sweep
from dse.train.context import TrainContext
from dse.train.loop import run_pack
from dse.train.options import RunOptions
from dse.train.saved_weights import saved_path
from dse.train.weights import weights_path
from tests.records import content

TEXT = """
tasks: [regression]
recipes: [mxfp4, nvfp4]
seeds: 2
training: {steps: 6, batch: 16}
"""
OPTIONS = RunOptions("local", workers=1, track=False, progress=False)


def test_saved_models_are_those_that_were_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, results = tmp_path / "x.yaml", tmp_path / "results"
    path.write_text(TEXT, encoding="utf-8")
    plain = load_sweep(path)
    path.write_text(TEXT + "save: weights\n", encoding="utf-8")
    sweep = load_sweep(path)
    assert [cell.uid for cell in sweep.cells] == [cell.uid for cell in plain.cells], "no part of a trial's identity"
    assert run(path, results, OPTIONS) == 0
    records = {record.uid: record for record in Store(results).records()}
    kept: dict[str, dict[str, torch.Tensor]] = {}
    context = TrainContext(RunOptions(), keep=lambda uid, weights: kept.update({uid: dict(weights)}))
    for cell in sweep.cells:
        (alone,) = run_pack([cell.trial], context)
        assert content(alone) == content(records[cell.uid]), "saving changes no number"
        with safe_open(saved_path(results, cell.uid), framework="pt") as file:
            assert json.loads(file.metadata()["trial"]) == cell.trial.spec
            assert {*file.keys()} == kept[cell.uid].keys()
        model = load_model(results, cell.uid[:10])
        for name, value in model.named_parameters():
            assert torch.equal(value, kept[cell.uid][name]), name
        assert not weights_path(results, cell.trial).exists()
    assert len(kept) == 6
    capsys.readouterr()
    why(sweep.cells[0].uid, results)
    assert f"weights   {saved_path(results, sweep.cells[0].uid)}" in capsys.readouterr().out
    saved_path(results, sweep.cells[0].uid).unlink()
    run(path, results, OPTIONS)
    assert "1 result here have no saved weights; --retry all" in capsys.readouterr().err
    with pytest.raises(UserError, match="no weights of"):
        load_model(results, sweep.cells[0].uid)
    damaged = saved_path(results, sweep.cells[1].uid)
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(UserError, match="is damaged"):
        load_model(results, sweep.cells[1].uid)


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT + "save: weight\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.yaml:6: save: there is no 'weight'; did you mean 'weights'"):
        load_sweep(path)


def test_after_post_training_the_trained_model_is_the_one_saved(tmp_path: Path) -> None:
    path, results = tmp_path / "x.yaml", tmp_path / "results"
    text = TEXT.replace("mxfp4, nvfp4", "mxfp4") + "post: rtn\nsave: weights\n"
    path.write_text(text, encoding="utf-8")
    assert run(path, results, OPTIONS) == 0
    records = [record for record in Store(results).records() if record.status == OK]
    assert len(records) == 4
    saved = {record.recipe for record in records if saved_path(results, record.uid).exists()}
    assert saved == {"bf16"}
