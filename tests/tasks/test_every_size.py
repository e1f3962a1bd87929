"""Every net at every size: from YAML, one step of a pack of two has the bits of the solo runs. All data are made here.

What takes more than a second or two is marked slow; the smallest size of every net is in every run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dse.sweep import load_sweep
from dse.tasks import diffusion, image
from dse.tasks.lm import SIZES as TEXTS
from dse.train.loop import load, run_pack, run_trial
from tests.records import trained

pytestmark = pytest.mark.usefixtures("short_sampling")

MIDDLE = {"small", "0.5M"}
LARGE = {"base", "1M", "3M", "9M", "30M", "60M", "nanogpt-gpu", "paper"}


def every() -> Iterator[Any]:
    """YAML of a task, marked slow where it is large."""
    for size in TEXTS:
        yield case("lm", size=size)
    for size in image.SIZES:
        for net in image.NETS:
            yield case("image", size=size, net=net)
        for net in ("dit", "unet"):
            for process in ("ddpm", "edm"):
                yield case("diffusion", size=size, net=net, process=process)
    for size in ("tiny", "small", "paper"):
        for net in ("mlp", "linear"):
            yield case("regression", size=size, net=net)


def case(task: str, **options: str) -> Any:
    size = options["size"]
    marks = [pytest.mark.exhaustive] * (size in MIDDLE) + [pytest.mark.slow] * (size in LARGE)
    text = f"{task}: {{{', '.join(f'{k}: {v}' for k, v in options.items())}}}"
    return pytest.param(text, id=" ".join([task, *options.values()]), marks=marks)


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, short evaluations, and a vmap that falls back to a loop is an error."""
    torch.set_num_threads(1)
    for name, size in TEXTS.items():
        monkeypatch.setitem(TEXTS, name, replace(size, held_out=512))
    for module in (image, diffusion):
        monkeypatch.setattr(module, "HELD_OUT", 6)
        monkeypatch.setattr(module, "CONVOLVED", dict.fromkeys(module.CONVOLVED, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    load.cache_clear()


@pytest.mark.parametrize("task", every())
def test_packed_and_solo_from_yaml(task: str, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        f"tasks:\n  - {task}\nrecipes: [bf16, nvfp4]\nseeds: [3]\ntraining: {{steps: 1, batch: 1, eval_every: 0}}\n",
        encoding="utf-8",
    )
    trials = [cell.trial for cell in load_sweep(path).cells]
    together = run_pack(trials)
    assert all(record.metric is not None for record in together)
    assert trained(together[1]) == trained(run_trial(trials[1]))
