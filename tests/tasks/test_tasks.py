"""The contract of every task: pure batches, seeded models, a falling loss, a fixed evaluation, packs equal solo."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from dse.errors import UserError
from dse.tasks import TASKS, Task
from dse.tasks.base import single, to_device

CASES: dict[str, Task[Any]] = {
    "regression": TASKS["regression"](),
    "regression-linear": TASKS["regression"](net="linear", noise=0.1),
    "regression-diabetes": TASKS["regression"](source="diabetes"),
    "image": TASKS["image"](),
    "image-vit": TASKS["image"](net="vit"),
    "diffusion": TASKS["diffusion"](),
    "diffusion-edm": TASKS["diffusion"](process="edm"),
    "lm": TASKS["lm"](),
    "addition": TASKS["addition"](),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=CASES)
def task(request: pytest.FixtureRequest) -> Task[Any]:
    return CASES[request.param]


@cache
def load(task: Task[Any]) -> Any:
    return task.load()


def make(task: Task[Any], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return task.model(load(task))


def equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_batch_is_a_pure_function_of_seed_and_step(task: Task[Any]) -> None:
    data = load(task)
    first = single(task, data, 1, 2, 6)
    torch.manual_seed(99)
    torch.rand(3)
    assert equal(first, single(task, data, 1, 2, 6))
    for seed, step in ((1, 3), (2, 2), (2, 1)):
        assert not equal(first, single(task, data, seed, step, 6))
    assert all(len(part) == 6 for part in first)


def test_batches_leave_the_global_generator_alone(task: Task[Any]) -> None:
    data, state = load(task), torch.get_rng_state()
    single(task, data, 0, 0, 4)
    task.held_out(data)
    assert torch.equal(state, torch.get_rng_state())


def test_loading_again_gives_the_same_data(task: Task[Any]) -> None:
    again = task.load()
    assert task.data_fingerprint(again) == task.data_fingerprint(load(task))
    assert len(task.data_fingerprint(again)) == 16


def test_model_depends_on_the_seed_alone(task: Task[Any]) -> None:
    one, same, other = make(task, 5).state_dict(), make(task, 5).state_dict(), make(task, 6).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_few_steps_lower_the_loss_and_evaluation_repeats(task: Task[Any]) -> None:
    data, model = load(task), make(task)
    before = task.evaluate(model, data)
    assert task.evaluate(model, data) == before
    training = task.training()
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=0.0)
    for step in range(12):
        optimizer.zero_grad()
        task.loss(model, single(task, data, 0, step, 32)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = task.evaluate(model, data)
    assert after.keys() == before.keys()
    gradual = task.metric if task.learned is None else "loss"  # what is learned at once is not in 12 steps
    assert after[gradual] < 0.97 * before[gradual]


def test_evaluation_changes_nothing(task: Task[Any]) -> None:
    model, data = make(task), load(task)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    task.evaluate(model, data)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_weighs_every_held_out_item_once() -> None:
    task = CASES["regression"]
    data = load(task)
    data = replace(data, test_x=data.test_x[:1500], test_y=data.test_y[:1500])  # batches of unequal length
    model = make(task)
    with torch.no_grad():
        expected = (model(data.test_x).squeeze(-1) - data.test_y).square().mean().item()
    assert task.evaluate(model, data)["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_pack_equals_its_members(task: Task[Any]) -> None:
    data, models = load(task), [make(task, seed) for seed in range(3)]
    if task.name == "diffusion":  # its answer is 0 at the start: move the head so that every gradient flows
        for model in models:
            nn.init.normal_(model.get_parameter("head.weight"), std=0.1)
    batches = [single(task, data, seed, 0, 8) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    base = models[0]

    def loss(p: dict[str, Tensor], b: dict[str, Tensor], *batch: Tensor) -> Tensor:
        return task.loss(lambda *inputs: functional_call(base, (p, b), inputs), batch)

    def measure(p: dict[str, Tensor], b: dict[str, Tensor], *batch: Tensor) -> dict[str, Tensor]:
        return task.measure(lambda *inputs: functional_call(base, (p, b), inputs), batch)

    stacked = [torch.stack(parts) for parts in zip(*batches, strict=True)]
    if task.name == "diffusion":  # `measure` takes thirds of the batch
        stacked = [part[:, :6] for part in stacked]
        batches = [tuple(part[:6] for part in batch) for batch in batches]
    packed = vmap(loss)(parameters, buffers, *stacked)
    gradients = vmap(grad(loss))(parameters, buffers, *stacked)
    metrics = vmap(measure)(parameters, buffers, *stacked)
    for i, (model, batch) in enumerate(zip(models, batches, strict=True)):
        solo = task.loss(model, batch)
        assert torch.allclose(packed[i], solo, rtol=1e-5, atol=1e-6)
        solo.backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            assert torch.allclose(gradients[name][i], parameter.grad, rtol=1e-4, atol=1e-5), name
        for key, value in task.measure(model, batch).items():
            assert torch.allclose(metrics[key][i], value, rtol=1e-5, atol=1e-6), key


def test_products_are_linears_and_exemptions_match(task: Task[Any]) -> None:
    model = make(task)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    exempt = [name for name in names if any(fnmatchcase(name, pattern) for pattern in task.exempt())]
    assert all(any(fnmatchcase(name, pattern) for name in names) for pattern in task.exempt())
    assert len(exempt) < len(names)
    # what is not in a linear: norms, positions and embeddings, no matrix that multiplies activations
    others = {name for name, _ in model.named_parameters()} - {f"{n}.{p}" for n in names for p in ("weight", "bias")}
    assert all(name.endswith(("norm.weight", "position", "embed.weight")) for name in others)


def test_data_moves_to_a_device(task: Task[Any]) -> None:
    moved = to_device(load(task), "meta")
    assert {v.device.type for v in vars(moved).values() if isinstance(v, Tensor)} == {"meta"}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("regression", {"source": "gausian"}, ("regression: source is 'gausian'", "did you mean 'gaussian'?")),
        ("regression", {"net": "cnn"}, ("net is 'cnn'", "linear")),
        ("regression", {"noise": -1.0}, ("noise is -1.0", "at least 0")),
        ("regression", {"noise": "much"}, ("noise must be a number, not 'much'",)),
        ("image", {"source": "fashion_mnist"}, ("did you mean 'fashion-mnist'?",)),
        ("image", {"size": "tinny"}, ("did you mean 'tiny'?",)),
        ("diffusion", {"process": "edn"}, ("did you mean 'edm'?",)),
        ("diffusion", {"size": 3}, ("size is 3",)),
        ("lm", {"size": "smal"}, ("did you mean 'small'?",)),
        ("lm", {"text": 7}, ("text must be a name or a path, not 7",)),
    ],
)
def test_a_wrong_option_is_one_clear_line(name: str, options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        TASKS[name](**options)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("name", TASKS)
def test_every_size_names_a_training(name: str) -> None:
    task = TASKS[name]()
    assert task.name == name
    assert task.version >= 1
    for size in ("tiny", "small", {"regression": "paper"}.get(name, "base")):
        assert TASKS[name](size=size).training().steps > 0
