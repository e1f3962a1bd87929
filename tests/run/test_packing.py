"""The queue: every cell exactly once, whatever fits a pack and whoever dies; one trial that kills costs no other."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from dse.run.queue.pack_queue import ATTEMPTS, PackQueue, WorkItem, pack_order
from dse.sweep import Cell, load_sweep

SWEEP = """
name: queue
tasks:
  - regression: {training: {steps: 3}}
  - image: {training: {steps: 3}}
recipes: [bf16, mxfp4, nvfp4]
seeds: 20
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    path = tmp_path_factory.mktemp("queue") / "queue.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return load_sweep(path).cells


def drain(queue: PackQueue) -> list[WorkItem]:
    loads = []
    while load := queue.take():
        loads.append(load)
    return loads


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_exactly_once(cells: tuple[Cell, ...], seed: int) -> None:
    """Workers that hold loads at the same time, find other widths than were asked for, and die now and then."""
    chance = random.Random(seed)
    workers, limit = chance.randint(1, 5), chance.choice((1, 3, 16, 64))
    poison = {cell.uid for cell in chance.sample(cells, chance.randint(0, 3))}
    queue, held = PackQueue(cells, limit, workers), list[WorkItem]()
    ran, given_up = list[str](), list[str]()
    while not queue.exhausted():
        if len(held) < workers and (load := queue.take()):
            assert len({cell.trial.task.name for cell in load.cells}) == 1
            assert 1 <= len(load.cells) <= limit
            held.append(load)
            continue
        load = held.pop(chance.randrange(len(held)))
        fits = len(load.cells) if load.width is not None else chance.randint(1, len(load.cells))
        uids = [cell.uid for cell in load.cells[:fits]]
        if poison & set(uids) or (chance.random() < 0.1 and load.attempt < ATTEMPTS and len(uids) > 1):
            guilty = queue.requeue(load)
            given_up += [guilty.uid] if guilty else []
        else:
            queue.done(load, fits)
            ran += uids
    assert not held, f"seed {seed}"
    assert set(given_up) == poison
    assert sorted(ran + given_up) == sorted(cell.uid for cell in cells)


def test_workers_share_a_group_in_packs_of_like_size(cells: tuple[Cell, ...]) -> None:
    group = cells[:1] * 50  # equal signatures are all that counts here
    assert [len(load.cells) for load in drain(PackQueue(group, 32, workers=4))] == [13, 13, 12, 12]
    assert [len(load.cells) for load in drain(PackQueue(group, 8, workers=4))] == [7, 7, 6, 6, 6, 6, 6, 6]
    assert [len(load.cells) for load in drain(PackQueue(group, 32, workers=1))] == [25, 25]
    assert [len(load.cells) for load in drain(PackQueue(group[:3], 32, workers=4))] == [3]


def test_a_measured_width_holds_for_its_group_alone(cells: tuple[Cell, ...]) -> None:
    queue = PackQueue(cells, 32)
    first = queue.take()
    assert first is not None
    assert first.width is None
    queue.done(first, 7)
    loads = drain(queue)
    mine = [load for load in loads if load.cells[0].trial.task == first.cells[0].trial.task]
    assert {load.width for load in mine} == {7}
    assert max(len(load.cells) for load in mine) <= 7
    assert {load.width for load in loads if load not in mine} == {None}
    assert mine[0].cells[0] is first.cells[7]  # in the sweep's order


def test_bisection_isolates_the_poison_trial(cells: tuple[Cell, ...]) -> None:
    queue, poison = PackQueue(cells[:16], 16), cells[5].uid
    deaths, ran = list[int](), list[str]()
    guilty = None
    while load := queue.take():
        uids = [cell.uid for cell in load.cells]
        if poison in uids:
            deaths.append(len(uids))
            guilty = queue.requeue(load) or guilty
        else:
            ran += uids
            queue.done(load, len(uids))
    group = [len(load.cells) for load in drain(PackQueue(cells[:16], 16))]
    assert deaths[0] == group[0]
    assert deaths[-ATTEMPTS:] == [1] * ATTEMPTS
    assert guilty is cells[5]
    assert sorted(ran) == sorted(cell.uid for cell in cells[:16] if cell.uid != poison)


def test_more_cells_may_come_while_others_run(cells: tuple[Cell, ...]) -> None:
    queue = PackQueue(cells[:1], 32)
    load = queue.take()
    assert load is not None
    assert queue.take() is None
    assert not queue.exhausted()
    queue.submit(cells[1:2])
    assert len(queue) == 1
    queue.done(load, len(load.cells))
    assert [cell.uid for rest in drain(queue) for cell in rest.cells] == [cells[1].uid]


def test_neighbors_share_kernels_on_a_gpu(cells: tuple[Cell, ...]) -> None:
    mixed = [cell for cell in cells if cell.trial.task.name == "regression"]
    random.Random(3).shuffle(mixed)
    order = pack_order("cuda")
    assert order is not None
    handed = [cell for load in drain(PackQueue(mixed, 8, order=order)) for cell in load.cells]
    assert sorted(cell.uid for cell in handed) == sorted(cell.uid for cell in mixed)
    changes = sum(a.trial.recipe != b.trial.recipe for a, b in pairwise(handed))
    assert changes == len({cell.trial.recipe for cell in mixed}) - 1
    queue = PackQueue(mixed[:30], 512, order=order)
    queue.submit(mixed[30:])
    assert [cell.uid for load in drain(queue) for cell in load.cells] == [cell.uid for cell in sorted(mixed, key=order)]
    assert pack_order("cpu") is None
