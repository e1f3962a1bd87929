"""Packs on a GPU: a member against its solo run, the graph against plain calls, NaN stays where it is.

Also a script that prints what it measures: python tests/gpu/test_packs_on_cuda.py
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from dse.numerics.recipe import override
from dse.pack.cuda_graph import GraphedStep
from dse.pack.grouping import member_order, use_kernels
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.train.loop import TrainContext, load, run_pack
from dse.train.options import RunOptions
from dse.trial import Trial

try:
    import pytest

    pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
except ModuleNotFoundError:  # a bare GPU machine runs this file as a script
    pass

MIX = ("bf16", "mxfp4", "mxfp4_rht_sr", "nvfp4", "nvfp4_plain", "ue5m3", "mxfp8", "tetrajet")
CASES: dict[str, Any] = {
    "regression": TASKS["regression"](),
    "lm": TASKS["lm"](),
    "diffusion": TASKS["diffusion"](),
    "image": TASKS["image"](),
    "vit": TASKS["image"](net="vit"),
    "attention": TASKS["lm"](),
    "lm, BF16 activations": TASKS["lm"](),
    "gpt, BF16 activations": TASKS["lm"](size="nanogpt-cpu"),
    "diffusion, BF16 activations": TASKS["diffusion"](),
    "vit, BF16 activations": TASKS["image"](net="vit"),
    "attention, BF16 activations": TASKS["lm"](),
}
BF16 = ", BF16 activations"
ATTENDING = ("mxfp4", "mxfp4_rht_sr", "nvfp4", "nvfp4_plain", "mxfp8")
"""In the case of this name, recipes that quantize attention's products too, beside others that do not."""
STRUCTURES = ("nvfp4", "quartet", "tetrajet2", "if4", "wang_fp4", "bf16", "four_over_six", "ufp4")
"""Recipes that no common launch computes: a segment each."""
NETS = ("lm", "vit", "diffusion", "lm, BF16 activations")
"""Cases with attention that their recipes leave alone."""


def lineup(case: str, steps: int, seeds: int, names: tuple[str, ...] = MIX) -> list[Trial]:
    task, recipes = CASES[case], {name: RECIPES[name] for name in names}
    if case.removesuffix(BF16) == "attention":
        recipes |= {name: override(recipes[name], "attention", "same") for name in names if name in ATTENDING}
    activations = "bf16" if case.endswith(BF16) else "fp32"
    training = replace(task.training(), steps=steps, eval_every=0, activations=activations)
    trials = [Trial(task, training, recipes[name], seed) for seed in range(seeds) for name in names]
    return [trials[i] for i in member_order(trials, use_kernels("cuda"))]


def trained(trials: list[Trial], data: Any, graph: bool) -> TrainStep:
    program = TrainStep(trials, data, "cuda", use_kernels("cuda"))
    stepper = GraphedStep(program.step, program.pack.device, graph)
    for _ in range(program.steps):
        stepper()
    assert stepper.captured == graph, stepper.refused
    return program


def graph_equals_plain_calls(name: str) -> bool:
    trials = lineup(name, 12, 2)
    data, _ = load(CASES[name], None, "cuda")
    plain, replayed = (trained(trials, data, graph) for graph in (False, True))
    return torch.equal(plain.pack.flat, replayed.pack.flat) and torch.equal(plain.log, replayed.log)


def streams_change_nothing(name: str) -> bool:
    """Segments on several streams, in a graph and outside of it, against one after the other."""
    trials = lineup(name, 12, 2, STRUCTURES)
    data, _ = load(CASES[name], None, "cuda")
    with mock.patch("dse.pack.linear.side_by_side", lambda tasks, device: [task() for task in tasks]):
        alone = trained(trials, data, graph=False)
    together = [trained(trials, data, graph) for graph in (False, True)]
    return all(torch.equal(alone.pack.flat, one.pack.flat) and torch.equal(alone.log, one.log) for one in together)


def nan_stays(name: str) -> bool:
    trials = lineup(name, 6, 1)
    data, _ = load(CASES[name], None, "cuda")
    whole, hurt = (TrainStep(trials, data, "cuda", use_kernels("cuda")) for _ in range(2))
    for step in range(6):
        if step == 2:
            hurt.pack.flat[3].fill_(torch.nan)
        whole.step()
        hurt.step()
    others = [i for i in range(len(trials)) if i != 3]
    return torch.equal(whole.pack.flat[others], hurt.pack.flat[others]) and int(hurt.diverged_at[3]) == 2


def skipped_steps_leave_no_trace(name: str) -> bool:
    """Under dynamic loss scaling in a CUDA graph: members whose gradients overflow where scales are sampled again."""
    held = override(RECIPES["ue5m3"], "*.tensor_scale", {"delayed": {"every": 2}})
    recipes = [held, RECIPES["tetrajet_q_ema"], RECIPES["fp4_all_the_way"], held, RECIPES["nvfp4"], held]
    activations = "bf16" if name.endswith(BF16) else "fp32"
    training = replace(CASES[name].training(), steps=12, loss_scaling="dynamic", activations=activations)
    trials = [Trial(CASES[name], training, recipe, seed) for seed, recipe in enumerate(recipes)]
    trials = [trials[i] for i in member_order(trials, use_kernels("cuda"))]
    program = TrainStep(trials, load(CASES[name], None, "cuda")[0], "cuda", use_kernels("cuda"))
    stepper = GraphedStep(program.step, program.pack.device, True)
    hurt = torch.arange(len(trials), device="cuda") % 2 == 0
    reported = ("clock", "log", "norms", "bound", "scaling.factor", "scaling.good")
    fine = True
    for step in range(10):
        before = {name: t.clone() for name, t in program.tensors().items() if name not in reported}
        if overflows := step in (0, 8):
            program.tensors()["scaling.factor"][hurt] = torch.inf
        stepper()
        program.tensors()["scaling.factor"].fill_(1024.0)
        if overflows:
            for key, now in program.tensors().items():
                if key in before and len(now) == len(trials):
                    fine &= torch.equal(now[hurt].nan_to_num(9), before[key][hurt].nan_to_num(9))
            fine &= not torch.equal(program.pack.flat[~hurt], before["flat"][~hurt])
    scales = [t for key, t in program.tensors().items() if key.endswith("memory")]
    return fine and stepper.captured and all(bool(t.isfinite().all()) for t in scales) and bool(scales[0].any())


def against_solo(name: str, steps: int, seeds: int) -> tuple[float, float, int, int]:
    """Largest difference of the final metric to the solo run, deviation between seeds, bit-equal members, compared."""
    trials = lineup(name, steps, seeds, ("bf16", "nvfp4", "mxfp4_rht_sr"))
    together = run_pack(trials, TrainContext(RunOptions(device="cuda")))
    spread = statistics.stdev(r.metric for r in together if r.recipe == "bf16" and r.metric is not None)
    some = [i for i in range(len(trials)) if trials[i].seed == 1]
    alone = [run_pack([trials[i]], TrainContext(RunOptions(device="cuda")))[0] for i in some]
    pairs = [(together[i].metric, one.metric) for i, one in zip(some, alone, strict=True)]
    same = sum(together[i].curve == one.curve for i, one in zip(some, alone, strict=True))
    return max(abs((a or 0) - (b or 0)) for a, b in pairs), spread, same, len(some)


def quantized_attention_elsewhere_changes_nothing(name: str) -> bool:
    """Members that leave attention alone, in a pack of their own and beside others that quantize its products."""
    data, _ = load(CASES[name], None, "cuda")
    plain = lineup(name, 12, 2)
    others = lineup("attention" + BF16 * name.endswith(BF16), 12, 1, ATTENDING)
    others = [replace(trial, task=plain[0].task, training=plain[0].training) for trial in others]
    mixed = [*plain, *others]
    mixed = [mixed[i] for i in member_order(mixed, use_kernels("cuda"))]
    apart, beside = (trained(trials, data, graph=False) for trials in (plain, mixed))
    at = [mixed.index(trial) for trial in plain]
    return torch.equal(apart.pack.flat, beside.pack.flat[at]) and torch.equal(apart.log, beside.log[:, at])


def many_heads_are_measured() -> float:
    """64 members times 1,024 held-out items, more heads than a CUDA grid takes: the largest difference to 8 members."""
    task = CASES["lm"]
    data, _ = load(task, None, "cuda")
    training = replace(task.training(), steps=1, activations="bf16")
    trials = [Trial(task, training, RECIPES["nvfp4"], seed) for seed in range(64)]
    batch = tuple(torch.cat(parts)[:1024] for parts in zip(*task.held_out(data), strict=True))
    batch = tuple(part.repeat(-(-1024 // len(part)), *[1] * (part.dim() - 1))[:1024] for part in batch)
    whole, few = (TrainStep(some, data, "cuda", use_kernels("cuda")).pack for some in (trials, trials[:8]))
    return float((whole.measure(batch)["loss"][:8] - few.measure(batch)["loss"]).abs().max())


def memory(name: str) -> list[int]:
    """Bytes that a step of 8 members takes at most, with FP32 and with BF16 activations."""
    found = []
    for activations in ("fp32", "bf16"):
        task = CASES[name]
        training = replace(task.training(), steps=3, activations=activations)
        trials = [Trial(task, training, RECIPES["nvfp4"], seed) for seed in range(8)]
        program = TrainStep(trials, load(task, None, "cuda")[0], "cuda", use_kernels("cuda"))
        program.step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        program.step()
        torch.cuda.synchronize()
        found.append(torch.cuda.max_memory_allocated())
    return found


def test_the_graph_is_the_plain_step() -> None:
    assert graph_equals_plain_calls("regression")
    assert graph_equals_plain_calls("lm")
    assert graph_equals_plain_calls("attention")
    assert graph_equals_plain_calls("lm, BF16 activations")


def test_more_heads_than_a_grid_takes() -> None:
    assert many_heads_are_measured() < 1e-5


def test_bf16_activations_take_less_memory() -> None:
    fp32, bf16 = memory("lm")
    assert bf16 < fp32


def test_streams_change_nothing() -> None:
    assert streams_change_nothing("lm")


def test_nan_stays_with_its_member() -> None:
    assert nan_stays("lm")


def test_skipped_steps_leave_no_trace() -> None:
    assert skipped_steps_leave_no_trace("lm")


def test_quantized_attention_elsewhere_changes_nothing() -> None:
    assert quantized_attention_elsewhere_changes_nothing("lm")
    assert quantized_attention_elsewhere_changes_nothing("vit")


def test_a_member_is_its_solo_run() -> None:
    for name in ("lm", "attention", "lm, BF16 activations"):
        difference, _, same, compared = against_solo(name, 40, 4)
        assert difference == 0
        assert same == compared


def report(name: str) -> tuple[bool, str]:
    """Everything about one case, in a process of its own: compilation takes most of the time."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    try:
        same_graph, apart, skips = graph_equals_plain_calls(name), nan_stays(name), skipped_steps_leave_no_trace(name)
        beside = name in NETS and quantized_attention_elsewhere_changes_nothing(name)
        difference, spread, same, count = against_solo(name, 100, 6)
    except Exception as error:  # noqa: BLE001 - the others are worth running
        return False, f"{name}: {type(error).__name__}: {error}"
    text = (
        f"{name}: graph = plain calls: {same_graph}; NaN stays: {apart}; skipped steps leave no"
        f" trace: {skips}; quantized attention elsewhere changes nothing: {beside}; member - solo run: at most"
        f" {difference:.2e} in the final metric, {difference / spread:.3f} of the deviation between seeds"
        f" ({spread:.2e}); bit-equal curves: {same} of {count}; {time.perf_counter() - start:.1f} s"
    )
    return same_graph and apart and skips and beside >= (name in NETS) and difference == 0 and same == count, text


def main() -> None:
    heads, (fp32, bf16) = many_heads_are_measured(), memory("lm")
    good = heads < 1e-5 and bf16 < fp32
    print(f"more heads than a grid takes: measures differ by {heads:.1e}")
    print(f"memory of a step, lm, 8 members: {fp32 / 2**20:.0f} MiB, BF16 activations {bf16 / 2**20:.0f}", flush=True)
    with ProcessPoolExecutor(min(len(CASES), 8), get_context("spawn")) as pool:
        for fine, text in pool.map(report, sys.argv[1:] or CASES):
            print(text, flush=True)
            good &= fine
    sys.exit(not good)


if __name__ == "__main__":
    main()
