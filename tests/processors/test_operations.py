"""Every torch operation that a training uses gives a member the bits that it gives it alone, wherever it lies.

The operations are recorded in trainings of every net, recipe, optimizer, schedule and technique, and tried out on the
processor at hand: ``test_branches`` runs this under the other instruction sets.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dse.kernels import cpu_loops
from tests.processors.operations import BY_FORM, DEPENDENT, FORMS, PROBED, REVIEWED, SHARED
from tests.processors.recorder import Recorder
from tests.processors.workloads import MIX, shrink, workloads

MEMBERS = len(MIX)


@pytest.fixture(scope="module", params=["most", pytest.param("all", marks=pytest.mark.slow)])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch, cpu_loops.switched_off():
        shrink(monkeypatch)
        recorder = Recorder()
        recorder.complete = request.param == "all"
        for recorder.where, work in workloads(everything=request.param == "all"):
            with recorder:
                work()
        yield recorder


def test_every_operation_is_reviewed(recorded: Recorder) -> None:
    strange = {name: where for name, where in recorded.names.items() if name not in REVIEWED}
    assert not strange, "review them in tests/processors/operations.py"
    assert not recorded.complete or sorted(PROBED - recorded.names.keys()) == [], "reviewed for nothing"


def test_only_whole_powers(recorded: Recorder) -> None:
    """Squares and cubes are products; any other power depends on the place."""
    calls = [args for func, args, _ in recorded.calls.values() if func._schema.name == "aten::pow"]
    assert {args[1] for args in calls if has_members(args[0])} <= {1, 2, 3}


def test_products_lie_as_they_do_alone(recorded: Recorder) -> None:
    assert recorded.astray == []


def test_recorded_calls(recorded: Recorder) -> None:
    """The very calls of these trainings, with other numbers, for more and fewer members in other places."""
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    different, tried = [], set()
    for kind, (func, args, kwargs) in recorded.calls.items():
        name = func._schema.name.split("::")[1]
        own = [has_members(x) for x in args]
        if (
            name in SHARED | BY_FORM
            or func is torch.ops.aten.sum.default
            or not any(yes and x.is_floating_point() for yes, x in zip(own, args, strict=True))
        ):
            continue  # what members share, a pack of another width, the sum of all losses
        tried.add(name)
        for members in (2, 5):
            stack = [stacked(x, members, 3) if yes else x for yes, x in zip(own, args, strict=True)]
            whole = tree_leaves(func(*stack, **kwargs))
            for i in (0, members - 1):
                one = [part(x, i, members) if yes else x for yes, x in zip(own, stack, strict=True)]
                pairs = zip(whole, tree_leaves(func(*one, **kwargs)), strict=True)
                if not all(torch.equal(part(a, i, members), b) for a, b in pairs if isinstance(a, Tensor)):
                    different.append(f"{kind}, member {i} of {members}")
    assert not different
    assert not recorded.complete or sorted(PROBED - SHARED - BY_FORM - tried) == []


def has_members(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0 and len(x) % MEMBERS == 0


def stacked(x: Tensor, members: int, floats: int) -> Tensor:
    """An operand of so many members with the strides of ``x``, moved in memory; whole numbers are repeated."""
    own = len(x) // MEMBERS
    if not x.is_floating_point():
        return x[:own].repeat(members, *[1] * (x.dim() - 1))
    order = sorted(range(1, x.dim()), key=lambda d: -x.stride(d))
    shape = [members * own, *(x.shape[d] for d in order)]
    count = members * own * x[0].numel()
    values = torch.rand(count + floats, dtype=x.dtype)[floats:].view(shape).clamp_(0.01, 0.99)
    return values.permute(0, *(order.index(d) + 1 for d in range(1, x.dim())))


def part(x: Tensor, i: int, members: int) -> Tensor:
    """Member i's share, in memory of its own."""
    own = len(x) // members
    return x[i * own : (i + 1) * own].clone()


def place(x: Tensor, floats: int) -> Tensor:
    return torch.empty(x.numel() + floats)[floats:].view(x.shape).copy_(x)


def differs(form: Any, shape: tuple[int, int], members: int) -> bool:
    """Whether a member of a stack gets other bits than alone, at three places in memory."""
    x = 2 * torch.randn(members, *shape)
    whole = form(place(x, random.randrange(9)))
    ends = (0, members // 2, members - 1)
    return any(
        not torch.equal(whole[i], form(place(x[i : i + 1], floats))[0])
        for i in ends
        for floats in (0, random.randrange(9))
    )


SHAPES = ((1, 1), (1, 7), (3, 5), (7, 1), (5, 16), (33, 3), (9, 37), (16, 64), (3, 130))


@pytest.mark.parametrize("name", FORMS)
def test_a_member_gets_the_bits_that_it_gets_alone(name: str) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    for shape in SHAPES:
        for members in (1, 2, 5):
            assert not differs(FORMS[name], shape, members), (shape, members)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_the_same_over_many_shapes(name: str) -> None:
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    generator = random.Random(seed)
    for _ in range(1500):
        shape = tuple(generator.choice((1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 257)) for _ in range(2))
        members = generator.choice((1, 2, 3, 5, 8, 31))
        assert not differs(FORMS[name], shape, members), (shape, members)  # type: ignore[arg-type]


def test_the_probe_sees_what_depends_on_the_place() -> None:
    """Some of these do so with every instruction set of x86-64."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip(f"nothing is known to depend on the place on {platform.machine()}")
    torch.manual_seed(0)
    found = {name for name, form in DEPENDENT.items() for shape in SHAPES for m in (1, 5) if differs(form, shape, m)}
    assert found
