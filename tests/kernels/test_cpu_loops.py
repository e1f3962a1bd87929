"""Compiled loops against plain torch, bit for bit: quantizers with any options, rotations, random bits, trainings."""

from __future__ import annotations

import math
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dse.errors import OptionError
from dse.kernels import cpu_loops
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.points import POINTS
from dse.numerics.quantizer import Quantizer
from dse.numerics.random import Key, key
from dse.numerics.techniques.choices import IF4, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Decode, Encode
from dse.numerics.techniques.rotations import hadamard
from dse.numerics.techniques.rounding import (
    AwayFromZero,
    MantissaEven,
    NearestAway,
    NearestEven,
    Rounding,
    Stochastic,
    TowardZero,
)
from dse.numerics.techniques.statistics import AbsMax, HardSoft, Quest, SoftSoft
from dse.numerics.techniques.tensor_scales import Current, Delayed, Outer
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.train.loop import run_trial
from dse.trial import Trial

pytest.importorskip("numba")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    assert cpu_loops.load(), cpu_loops.why_not()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the modules whose loops have run."""
    names: list[str] = []
    own = cpu_loops.loops

    def noted(name: str) -> Any:
        names.append(name)
        return own(name)

    for module in ("compiled_blocks", "random", "techniques.rotations.hadamard"):
        holder = sys.modules[f"dse.numerics.{module}"]
        monkeypatch.setattr(*((holder, "loops") if hasattr(holder, "loops") else (holder.cpu_loops, "loops")), noted)
    return names


def bits(x: Tensor | None) -> Any:
    """The numbers' bits, all NaN alike."""
    return None if x is None else (x.shape, x.where(~x.isnan(), torch.nan).contiguous().view(torch.int32).tolist())


def both(q: Quantizer, x: Tensor, k: Key) -> tuple[Any, Any]:
    """What plain torch and the loops make of x, the memory included."""
    found = []
    for plain in (True, False):
        own = replace(k, memory=None if k.memory is None else k.memory.clone())
        if plain:
            with cpu_loops.switched_off():
                made = q(x, own)
        else:
            made = q(x, own)
        found.append((bits(made.values), bits(made.alpha), bits(own.memory)))
    return found[0], found[1]


def drawn_quantizer(r: random.Random) -> BlockQuantizer:
    """One with options from all of their families. Raises OptionError for some that mean nothing together."""

    def rounding() -> Rounding:
        plain = [NearestEven(), NearestAway(), MantissaEven(r.randrange(3)), TowardZero(), AwayFromZero()]
        return r.choice([*plain, Stochastic(r.choice([1, 3, 8, 11, 16, 20, 23])), Stochastic()])

    conventions = [Decode(zero) for zero in ("flush", "smallest", "one")] + [Decode(encode_with="unquantized")]
    encoded = [Encode(), Encode(divisor=True), Encode(zero="one", encode_with="unquantized")]
    scales = [None, Current(), Current(256.0), Current(through="exact"), Delayed(3), Outer(r.choice([1, 2, 8]))]
    choices = [FourOverSix(), FourOverSix("mae"), FourOverSix("max"), IF4(), ScaleSweep(-1, 2)]
    return BlockQuantizer(
        r.choice(list(ELEMENTS.values())),
        r.choice(list(SCALES.values())),
        r.choice([16, 16, 32, 7, 64, 0, 1]),
        r.choice([1, 1, 4, 16, 0, 3]),
        rounding(),
        rounding(),
        statistic=r.choice([AbsMax(), AbsMax(), HardSoft(), Quest(), Quest(centered=True), SoftSoft()]),
        gain=r.choice([1, 1, 0.75, 16 / 17]),
        convention=r.choice([*conventions, *encoded]),
        tensor_scale=r.choice(scales),
        choice=r.choice([None] * 6 + choices),
    )


def drawn_operand(r: random.Random, lead: tuple[int, ...]) -> Tensor:
    x = torch.randn(*lead, r.choice([1, 5, 16, 33]), r.choice([1, 8, 16, 40, 96]))
    x *= 10.0 ** r.choice([0, 0, 0, -3, 3, -20, 20, -38, -42, 37])
    chance = torch.rand(x.shape)
    x[chance < r.choice([0, 0, 0.3, 0.9])] = -0.0
    if r.random() < 0.2:
        x[chance > 0.99] = r.choice([math.inf, -math.inf, math.nan])
    if r.random() < 0.3:  # ties
        x = x.sign() * 2.0 ** torch.randint(-3, 3, x.shape) * torch.randint(1, 8, x.shape) / 2
    return x.mT.contiguous().mT if r.random() < 0.3 else x


def drawn_key(r: random.Random, lead: tuple[int, ...]) -> Key:
    clock = torch.randint(-(2**40), 2**40, (*r.choice([(), lead]), 2))
    clock[..., 1] = clock[..., 1].abs() % 100
    memory = torch.zeros(*lead, 6) if clock.shape[:-1] == lead else None
    if memory is not None and r.random() < 0.5:
        memory.uniform_()
    return Key(clock, r.randrange(50), r.randrange(6), r.randrange(3), memory, r.random() < 0.8)


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_quantizer(count: int, runs: list[str]) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    r = random.Random(seed)
    torch.manual_seed(seed)
    for _ in range(count):
        lead = r.choice([(), (3,), (2, 2), (1,)])
        x, k = drawn_operand(r, lead), drawn_key(r, lead)
        try:
            q = drawn_quantizer(r)
        except OptionError:
            continue
        plain, loops = both(q, x, k)
        assert plain == loops, (q, tuple(x.shape), k)
    assert runs.count("block_loops") > count
    assert "choice_loops" in runs


def test_attention_draws_as_one_operand_of_all_its_matrices() -> None:
    x = torch.randn(6, 5, 40)
    for q in (BlockQuantizer(block=16, tile=3, rounding=Stochastic()), BlockQuantizer(rounding=Stochastic(16))):
        plain, loops = both(q, x, Key(torch.tensor([[1, 2], [3, 4]]), 1, 2, matrices=3))
        assert plain == loops


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name: str) -> None:
    x = torch.randn(2, 40, 70, generator=torch.Generator().manual_seed(0))
    for number, point in enumerate(POINTS):
        plain, loops = both(RECIPES[name].quantizer(point), x, Key(torch.tensor([[1, 2], [3, 4]]), 3, number))
        assert plain == loops, point


def test_rotations_and_random_bits(runs: list[str]) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    r = random.Random(seed)
    torch.manual_seed(seed)
    for _ in range(60):
        size, lead = 2 ** r.randrange(1, 9), r.choice([(), (3,), (2, 2)])
        x = torch.randn(*lead, r.choice([1, 7, 70]), size * r.randrange(1, 4))
        x[torch.rand(x.shape) < 0.1] = -0.0
        x = x.mT.contiguous().mT if r.random() < 0.3 else x
        one, each = (torch.randint(0, 2, shape) * 2.0 - 1 for shape in ((size,), (*lead, size)))
        signs = r.choice([None, one, each])
        k, n = Key(torch.randint(-(2**50), 2**50, (*lead, 2)), r.randrange(9), r.randrange(6)), r.randrange(1, 33)
        with cpu_loops.switched_off():
            turned, drawn = hadamard.transform(x, size, signs), k.bits(7, 21, n)
        assert bits(turned) == bits(hadamard.transform(x, size, signs))
        found = k.bits(7, 21, n)
        assert torch.equal(drawn, found)
        assert drawn.dtype == found.dtype
    assert {"philox_loops", "hadamard_loops"} <= set(runs)


@pytest.mark.parametrize("recipe", ["nvfp4", "quartet", "tetrajet2"])
def test_a_training(recipe: str) -> None:
    task = TASKS["regression"]()
    trial = Trial(task, replace(task.training(), steps=3), RECIPES[recipe], 0)
    with cpu_loops.switched_off():
        plain = run_trial(trial)
    loops = run_trial(trial)
    assert (plain.pack["compiled"], loops.pack["compiled"]) == (False, True)
    assert (plain.metrics, plain.evals, plain.metrics_bf16) == (loops.metrics, loops.evals, loops.metrics_bf16)


def test_what_plain_torch_keeps() -> None:
    x = torch.randn(4, 32)
    assert cpu_loops.takes(x)
    assert not cpu_loops.takes(x.double())
    assert not cpu_loops.takes(x.requires_grad_())
    with torch.no_grad():
        assert cpu_loops.takes(x)
    with cpu_loops.switched_off():
        assert not cpu_loops.takes(x.detach())
    torch.func.vmap(lambda one: torch.zeros(1) if cpu_loops.takes(one) else one)(x.detach())
    assert not torch.func.vmap(lambda one: torch.full((1,), float(cpu_loops.takes(one))))(x.detach()).any()


def test_stochastic_rounding_still_needs_a_key() -> None:
    with pytest.raises(ValueError, match="needs a Key"):
        BlockQuantizer(rounding=Stochastic())(torch.randn(4, 32))
    assert torch.equal(key(1).bits(2, 20, 8), key(1).bits(2, 20, 8))


def test_a_quantizer_of_another_process_is_as_it_was_made() -> None:
    used = RECIPES["nvfp4"].quantizer(POINTS[0])
    used(torch.randn(4, 32))
    copied = pickle.loads(pickle.dumps(used, protocol=5))
    assert "_loop_options" in vars(used)
    assert "_loop_options" not in vars(copied)
    assert copied == used
    assert torch.equal(used(torch.ones(4, 32)).values, copied(torch.ones(4, 32)).values)


def child(code: str, **variables: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


def test_numba_is_imported_for_long_work_alone() -> None:
    code = (
        "import sys, torch; from dse.numerics.block import BlockQuantizer; q = BlockQuantizer();"
        "q(torch.randn(64, 64)); print('numba' in sys.modules)"
    )
    assert child(code) == "False"


def test_the_switch_of_numba_itself() -> None:
    code = "from dse.kernels import cpu_loops; print(cpu_loops.load(), cpu_loops.why_not())"
    assert child(code, NUMBA_DISABLE_JIT="1") == "False NUMBA_DISABLE_JIT is set"


@pytest.mark.slow
def test_machine_code_is_kept_and_a_broken_file_made_anew(tmp_path: Path) -> None:
    code = (
        "import torch; from dse.kernels import cpu_loops; from dse.numerics.block import BlockQuantizer;"
        "print(cpu_loops.load(), float(BlockQuantizer()(torch.ones(4, 32)).values.sum()), cpu_loops.cache_folder())"
    )
    for _ in range(2):
        done, total, folder = child(code, XDG_CACHE_HOME=str(tmp_path)).split()
        assert (done, total) == ("True", "96.0")
        files = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.nb?")}
        assert files
    for path in files:
        path.write_bytes(b"")
    for _ in range(2):
        assert child(code, XDG_CACHE_HOME=str(tmp_path)).split()[:2] == ["True", "96.0"]
    locked = tmp_path / "file"
    locked.write_text("")
    assert child(code, XDG_CACHE_HOME=str(locked)) == "True 96.0 None"
