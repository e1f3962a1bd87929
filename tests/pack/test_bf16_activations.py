"""BF16 activations: what is BF16 and what FP32, the same bits in a pack as alone, and an identity of their own."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dse.errors import UserError
from dse.nn.linear import QuantizedLinear
from dse.nn.quantize import set_clock
from dse.numerics.recipe import override
from dse.pack.grouping import member_order
from dse.pack.linear import PackedLinear
from dse.pack.mixed_precision import WorkingParameters
from dse.pack.pack import Pack
from dse.pack.segments import Segment
from dse.recipes import RECIPES
from dse.results.record import OK
from dse.sweep import load_sweep
from dse.tasks import TASKS, Task
from dse.tasks.base import Training, single
from dse.tasks.nets.activations import gelu
from dse.train.loop import run_pack, run_trial
from dse.trial import Trial
from tests.interpreted import interpreted
from tests.pack.test_pack_equals_solo import assert_same_steps
from tests.processors.workloads import shrink
from tests.records import content

TASKS_OF_ALL_NETS: dict[str, Task[Any]] = {
    "regression": TASKS["regression"](),
    "image": TASKS["image"](),
    "vit": TASKS["image"](net="vit"),
    "cnn": TASKS["image"](net="cnn"),
    "resnet": TASKS["image"](net="resnet"),
    "dit": TASKS["diffusion"](),
    "unet": TASKS["diffusion"](net="unet"),
    "llama": TASKS["lm"](),
    "gpt": TASKS["lm"](size="nanogpt-cpu"),
}
NAMES = ("bf16", "nvfp4", "mxfp4")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def training(task: Task[Any], **changes: Any) -> Training:
    return replace(task.training(), **{"steps": 2, "batch": 2, "activations": "bf16", "eval_every": 0, **changes})


def lineup(task: Task[Any], **changes: Any) -> list[Trial]:
    return [Trial(task, training(task, **changes), RECIPES[name], seed) for seed, name in enumerate(NAMES)]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["small", "whole"])
@pytest.mark.parametrize("name", ["regression", "image", "vit", "cnn", "llama"])
def test_a_member_has_the_bits_of_its_solo_run(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        shrink(monkeypatch)
    trials = lineup(TASKS_OF_ALL_NETS[name])
    for trial, together in zip(trials, run_pack(trials), strict=True):
        assert together.status == OK, together.error
        assert content(together) == content(run_trial(trial)), trial.recipe.name


@pytest.mark.parametrize("name", ["resnet", "dit", "unet", "gpt"])
def test_a_member_of_the_larger_nets_has_them_too(name: str) -> None:
    assert_same_steps(lineup(TASKS_OF_ALL_NETS[name]))


@pytest.mark.parametrize(
    "names", [sorted(RECIPES)[::4], pytest.param(list(RECIPES), marks=pytest.mark.exhaustive)], ids=len
)
def test_every_recipe_in_one_pack(names: list[str]) -> None:
    task = TASKS["regression"]()
    trials = [
        Trial(task, training(task, batch=8), recipe, i % 3) for i, recipe in enumerate(map(RECIPES.__getitem__, names))
    ]
    assert_same_steps([trials[i] for i in member_order(trials, use_kernels=False)])


def test_quantized_attention() -> None:
    task = TASKS["lm"]()
    recipes = [RECIPES["bf16"], *(override(RECIPES[name], "attention", "same") for name in ("mxfp4", "nvfp4"))]
    assert_same_steps([Trial(task, training(task, batch=1), recipe, 1) for recipe in recipes])


@pytest.mark.parametrize("name", TASKS_OF_ALL_NETS)
def test_what_layers_hand_each_other_is_bf16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and outputs of linears and norms, the blocks' residual stream, and the gradients at linears."""
    task = TASKS_OF_ALL_NETS[name]
    data = task.load()
    pack = Pack(lineup(task)[1:2], data, "cpu", use_kernels=False)
    seen: dict[str, set[torch.dtype]] = {}

    def note(where: str, *tensors: Any) -> None:
        for x in tensors:
            if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1:
                seen.setdefault(where, set()).add(x.dtype)

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kind = type(module).__name__
        outputs = output if isinstance(output, tuple) else (output,)
        if kind != "Flatten":  # of the images
            note(f"{kind} out", *outputs)
        if isinstance(module, PackedLinear):
            note(f"{kind} in", module.layer.entering(inputs[0]))
        elif kind.endswith(("Norm", "Block", "Basic", "Noisy", "SwiGLU")):
            note(f"{kind} in", *inputs[:2])  # the third is a table of rotary angles

    def noting(whole: Any) -> Any:
        def backward(self: Segment, held: Any, g: Tensor, *rest: Any) -> Any:
            dx, dw = whole(self, held, g, *rest)
            note("G", g)
            note("dX", dx)
            assert dw is not None
            assert dw.dtype == torch.float32
            return dx, dw

        return backward

    for kind in {type(segment) for layer in pack.layers.values() for segment in layer.segments}:
        monkeypatch.setattr(kind, "backward", noting(kind.backward))
    handles = [module.register_forward_hook(hook) for module in pack.template.modules()]
    try:
        losses = pack.losses(task.batch(data, pack.seeds, pack.step, 2))
        pack.backward(losses.sum())
    finally:
        for handle in handles:
            handle.remove()
    print({where: sorted(map(str, dtypes)) for where, dtypes in seen.items()})
    assert {"G", "dX"} <= set(seen)
    assert {dtype for dtypes in seen.values() for dtype in dtypes} == {torch.bfloat16}, seen
    assert losses.dtype == torch.float32
    assert pack.flat.dtype == pack.grad.dtype == torch.float32


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


class _Rounded(torch.autograd.Function):
    """BF16 values held in FP32, and the gradient rounded as well: a BF16 tensor, written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return rounded(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return rounded(grads[0])


def stored(x: Tensor) -> Tensor:
    y: Tensor = _Rounded.apply(x)  # type: ignore[no-untyped-call]
    return y


def test_the_bf16_recipe_is_mixed_precision_written_by_hand() -> None:
    """Weights rounded at use, FP32 sums with the bias, activations and their gradients rounded once, FP32 dW and db."""
    task = TASKS["regression"]()
    data, seed = task.load(), random.randrange(1000)
    print(f"seed {seed}")
    pack = Pack([Trial(task, training(task, batch=16), RECIPES["bf16"], seed)], data, "cpu", use_kernels=False)
    losses = pack.losses(task.batch(data, pack.seeds, pack.step, 16))
    pack.backward(losses.sum())
    leaves = {name: view[0].detach().clone().requires_grad_() for name, view in pack.views.items()}
    x, target = single(task, data, seed, 0, 16)
    h = rounded(x)
    for layer in ("layers.0", "layers.1", "head"):
        w = leaves[f"{layer}.weight"]
        h = stored(h @ (w + (rounded(w) - w).detach()).T + leaves[f"{layer}.bias"])
        h = h if layer == "head" else stored(gelu(h))
    loss = F.mse_loss(h.squeeze(-1), target)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    assert torch.equal(loss, losses[0])
    for name, expected in zip(leaves, gradients, strict=True):
        found = pack.gradient_views[name][0]
        assert torch.equal(found, expected), f"{name}: {(found - expected).abs().max()}"


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4_rht_sr", "bf16"])
def test_quantized_layers_of_a_users_model_compute_the_same(name: str) -> None:
    """Plain layers that ``quantize_`` makes, with FP32 weights and BF16 inputs: the bits of a pack's layer."""
    task = TASKS["regression"]()
    data, seed = task.load(), random.randrange(1000)
    print(f"seed {seed}")
    pack = Pack([Trial(task, training(task, batch=16), RECIPES[name], seed)], data, "cpu", use_kernels=False)
    losses = pack.losses(task.batch(data, pack.seeds, pack.step, 16))
    pack.backward(losses.sum())
    torch.manual_seed(seed)
    model = task.model(data)
    for number, (path, linear) in enumerate([(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]):
        recipe = RECIPES["bf16"] if path == "head" else RECIPES[name]
        own = QuantizedLinear(linear.in_features, linear.out_features, recipe=recipe, layer=number)
        own.load_state_dict(linear.state_dict(), strict=False)
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, own)
    set_clock(model, seed, 0)
    x, target = single(task, data, seed, 0, 16)
    y = model(x.bfloat16())
    assert y.dtype == torch.bfloat16
    loss = F.mse_loss(y.float().squeeze(-1), target)
    loss.backward()
    assert torch.equal(loss, losses[0])
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(pack.gradient_views[path][0], parameter.grad), path


def test_parameters_without_a_linear_are_copied_and_tied_ones_are_not() -> None:
    """GPT: the embedding shares the head's FP32 matrix; positions are BF16 at use, and their gradient is FP32."""
    task = TASKS_OF_ALL_NETS["gpt"]
    data = task.load()
    pack = Pack(lineup(task)[:2], data, "cpu", use_kernels=False)
    leaves = pack.leaves()
    used = pack.working.of(leaves)
    assert used["embed.weight"] is used["head.weight"] is leaves["embed.weight"]
    assert {name for name, x in used.items() if x.dtype == torch.bfloat16} == {"position"}
    losses = pack.losses(task.batch(data, pack.seeds, pack.step, 2))
    pack.backward(losses.sum())
    for name, gradient in pack.gradient_views.items():
        assert gradient.any(), name


def test_torchs_own_modules_in_a_users_model() -> None:
    """Embeddings and norms compute in FP32 and return BF16, with FP32 gradients; a module without a rule is BF16."""
    model = nn.Sequential(nn.Conv1d(4, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.LayerNorm(6))
    working = WorkingParameters(model, nn.Linear, "bf16")
    used = working.of(dict(model.named_parameters()))
    assert {name for name, x in used.items() if x.dtype == torch.bfloat16} == {"0.weight", "0.bias", "2.weight"}
    y = functional_call(model, used, (torch.randn(2, 4, 8),), tie_weights=False)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    table = nn.Sequential(nn.Embedding(3, 2))
    working = WorkingParameters(table, nn.Linear, "bf16")
    rows = functional_call(table, working.of(dict(table.named_parameters())), (torch.ones(300, dtype=torch.int64),))
    assert torch.equal(rows[0], table[0].weight[1].bfloat16())
    rows.backward(torch.full_like(rows, 1 + 2**-7))
    assert table[0].weight.grad is not None
    assert torch.equal(table[0].weight.grad[1], torch.full((2,), 300 * (1 + 2**-7)))  # BF16 sums stop at 256


WHOLE = """
import torch
from dataclasses import replace
from dse.pack.step import TrainStep
from dse.recipes import RECIPES
from dse.tasks import TASKS
from dse.trial import Trial

pytestmark = pytest.mark.usefixtures("short_sampling")

task = TASKS["regression"]()
training = replace(task.training(), steps=1, batch=16, activations="bf16")
trials = [Trial(task, training, RECIPES[name], seed) for seed, name in enumerate(("bf16", "nvfp4", "mxfp4_rht_sr"))]
data = task.load()
reference, kernels = (TrainStep(trials, data, "cpu", use_kernels) for use_kernels in (False, True))
for step in (reference, kernels):
    step.step()
assert torch.equal(reference.log, kernels.log)
assert torch.equal(reference.pack.grad, kernels.pack.grad)
assert torch.equal(reference.pack.flat, kernels.pack.flat)
print("equal")
"""


@pytest.mark.slow
def test_a_step_by_kernels_is_that_of_the_reference() -> None:
    pytest.importorskip("triton")
    assert interpreted("-c", WHOLE) == "equal"


def test_identity() -> None:
    task = TASKS["lm"]()
    plain, bf16 = (Trial(task, training(task, activations=a), RECIPES["nvfp4"], 0) for a in ("fp32", "bf16"))
    assert "activations" not in plain.spec["training"]
    assert bf16.spec["training"]["activations"] == "bf16"
    assert plain.uid != bf16.uid
    assert bf16.baseline().training.activations == "bf16"
    with pytest.raises(UserError, match="did you mean 'bf16'"):
        training(task, activations="fp16")


def test_an_axis_of_a_sweep(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.yaml"
    file.write_text(
        "tasks: [regression]\nrecipes: [bf16, nvfp4]\nseeds: 1\ngrid: {training.activations: [fp32, BF16]}\n",
        encoding="utf-8",
    )
    cells = load_sweep(file).cells
    found = {(c.trial.recipe.name, c.trial.training.activations) for c in cells}
    assert found == {(r, a) for r in ("bf16", "nvfp4") for a in ("fp32", "bf16")}
    for cell in cells:
        assert cell.baseline_uid == cell.trial.baseline().uid  # compared at its own activations
