"""Ranges, `search`, and the space that a search chooses from."""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.sweep import Cell, Dimension, Excluded, Label, Range, Space, Sweep, baselines_at, cell_at, load_sweep
from dse.sweep.cells.sampling import sample_assignments
from dse.sweep.cells.space import Assignment

Load = Callable[[str], Sweep]
FILE = """
tasks:
  - regression: {grid: {task.noise: {uniform: [0, 1]}}}
  - lm
recipes: [bf16, mxfp4, nvfp4]
seeds: 2
search: {method: METHOD}
grid:
  training.lr: {log: [1e-4, 1e-2], levels: 3}
  G.rounding: [nearest_even, stochastic]
zip: {X.scale: [e8m0, ue4m3], W.scale: [ue4m3, e8m0]}
when:
  - {if: {G.rounding: stochastic}, grid: {G.rounding.bits: {log_int: [2, 16], levels: 4}}}
  - {if: {G.rounding: nearest_even, recipe: nvfp4}, grid: {G.block: [8, 16]}}
exclude:
  - {task: regression, recipe: mxfp4, X.scale: e8m0}
"""
SMALL = "tasks: [lm]\nrecipes: [mxfp4]\nseeds: 1\n"


@pytest.fixture
def space(sweep: Load) -> Space:
    found = sweep(FILE.replace("METHOD", "tpe, trials: 100"))
    assert found.cells == ()
    assert found.search.needs_results
    assert found.space is not None
    return found.space


def assignments(space: Space, count: int = 60) -> list[Assignment]:
    generator = random.Random(5)
    return [
        space.from_unit_cube(task, [generator.random() for _ in space.dimensions])
        for task in space.tasks
        for _ in range(count // 2)
    ]


def test_dimensions_are_asked_in_order_where_they_apply(space: Space) -> None:
    assert [d.name for d in space.dimensions] == [
        "recipe", "task.noise", "training.lr", "G.rounding", "X.scale + W.scale", "G.rounding.bits", "G.block"
    ]  # fmt: skip
    assert list(space.tasks) == ["regression", "lm"]
    assert list(space.recipes) == ["mxfp4", "nvfp4"]  # bf16 is the baseline, and has nothing to choose
    asked: list[Dimension] = []

    def first(dimension: Dimension) -> Label:
        asked.append(dimension)
        return dimension.range.high if dimension.range else dimension.choices[0]

    assert space.ask("lm", first) == {
        "task": "lm",
        "recipe": "mxfp4",
        "training.lr": 0.01,
        "G.rounding": "nearest_even",
        "X.scale": "e8m0",
        "W.scale": "ue4m3",
    }
    assert [d.choices for d in asked if not d.range] == [
        ("mxfp4", "nvfp4"),
        ("nearest_even", "stochastic"),
        ("e8m0, ue4m3", "ue4m3, e8m0"),
    ]


def test_what_was_asked_is_told_again(space: Space) -> None:
    for assignment in assignments(space):
        told = space.choices_of(assignment)
        assert space.ask(str(assignment["task"]), told.__getitem__) == assignment


def test_a_cell_of_an_assignment(space: Space) -> None:
    kinds = set()
    for assignment in assignments(space):
        cell = cell_at(space, assignment, 1)
        kinds.add(type(cell))
        assert cell == cell_at(space, dict(assignment), 1)
        assert {k: v for k, v in cell.labels.items() if v is not None and k not in ("seed", "task")} == {
            k: v for k, v in assignment.items() if k != "task"
        }
        if isinstance(cell, Excluded):
            assert cell.reason == "excluded on line 15"
            continue
        assert space.assignment(cell.labels) == assignment
        assert cell.trial.training.lr == assignment["training.lr"]
        assert cell.trial.seed == cell.labels["seed"] == 1
        (baseline,) = baselines_at(space, assignment, 1)
        assert (baseline.uid, baseline.is_baseline, baseline.config[:4]) == (cell.baseline_uid, True, "bf16")
        assert baseline.uid == cell.trial.baseline().uid
    assert kinds == {Cell, Excluded}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"task": "image"}, "this sweep has no task 'image'"),
        ({"recipe": "bf16"}, "recipe cannot be bf16 in this sweep"),
        ({"training.lr": 0.5}, "training.lr cannot be 0.5"),
        ({"X.scale": "ue4m3"}, "X.scale + W.scale cannot be ue4m3, ue4m3"),
        ({"G.rounding.bits": 4}, "values on axes that do not apply"),
    ],
)
def test_assignments_of_other_spaces(space: Space, change: dict[str, Label], text: str) -> None:
    good = space.ask("lm", lambda d: d.range.low if d.range else d.choices[0])
    assert isinstance(cell_at(space, good, 0), Cell)
    with pytest.raises(UserError, match=text.replace("+", r"\+")):
        cell_at(space, {**good, **change}, 0)


@pytest.mark.parametrize("method", ["random", "qmc"])
def test_configurations_that_need_no_results_are_cells_at_once(sweep: Load, method: str) -> None:
    found = sweep(FILE.replace("METHOD", f"{method}, trials: 10, seed: 4"))
    assert [c.uid for c in found.cells] == [
        c.uid for c in sweep(FILE.replace("METHOD", f"{method}, trials: 10, seed: 4")).cells
    ]
    own = [cell for cell in found.cells if not cell.is_baseline]
    assert len(own) == 10 * 2 * 2
    other = sweep(FILE.replace("METHOD", f"{method}, trials: 10, seed: 5"))
    assert not {c.uid for c in own} & {c.uid for c in other.cells}
    more = sweep(FILE.replace("METHOD", f"{method}, trials: 20, seed: 4"))
    assert {c.uid for c in own} < {c.uid for c in more.cells}  # more trials add to those that were there
    drawn_rates = {
        labels["training.lr"] for labels in [*(c.labels for c in found.cells), *(e.labels for e in found.excluded)]
    }
    assert found.axes["training.lr"] == tuple(sorted(drawn_rates))  # type: ignore[type-var]


def test_tasks_with_the_same_axes_try_the_same(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, image]
        recipes: [mxfp4]
        seeds: 1
        search: {method: random, trials: 5}
        grid: {training.lr: {log: [1e-4, 1e-2]}}
    """)
    rates = {(c.labels["task"], c.labels["training.lr"]) for c in found.cells}
    assert len(rates) == 10
    assert {lr for task, lr in rates if task == "lm"} == {lr for task, lr in rates if task == "image"}


def test_a_small_space_is_drawn_empty(sweep: Load) -> None:
    found = sweep(SMALL + "search: {method: qmc, trials: 50}\ngrid: {'*.block': [8, 16]}\n")
    assert {cell.config for cell in found.cells} == {"bf16", "mxfp4 *.block=8", "mxfp4 *.block=16"}


def test_sobol_points_are_even(sweep: Load) -> None:
    axes = "grid: {training.clip: {uniform: [0, 1]}, training.lr: {uniform: [0, 1]}}\n"
    space = sweep(SMALL + "search: {method: qmc, trials: 3}\n" + axes).space
    assert space is not None
    found = [(a["training.clip"], a["training.lr"]) for a in islice(sample_assignments(space, "lm"), 256)]
    boxes = {(int(float(x) * 8), int(float(y) * 8)) for x, y in found}  # type: ignore[arg-type]
    assert len(boxes) == 64


def test_a_grid_search_takes_levels(sweep: Load) -> None:
    found = sweep(FILE.replace("METHOD", "grid").replace("uniform: [0, 1]", "uniform: [0, 1], step: 0.5"))
    assert found.axes["training.lr"] == (0.0001, 0.001, 0.01)
    assert found.axes["task.noise"] == (0.0, 0.5, 1.0)
    assert found.axes["G.rounding.bits"] == (2, 4, 8, 16)
    regression = sum(c.labels["recipe"] == "nvfp4" and str(c.labels["task"]).startswith("reg") for c in found.cells)
    assert regression == 3 * 3 * 2 * (2 + 4) * 2


RANGES = {
    Range("uniform", 0.0, 1.0): (0.0, 1.0),
    Range("uniform", -1.0, 1.0, step=0.25): (-1.0, 1.0),
    Range("log", 1e-5, 1e-1): (1e-5, 1e-1),
    Range("int", 3, 17): (3, 17),
    Range("int", 10, 100, step=30): (10, 100),
    Range("log_int", 1, 1000): (1, 1000),
}


@pytest.mark.parametrize("own", RANGES, ids=lambda r: f"{r.kind}{'-step' if r.step else ''}")
def test_numbers_of_a_range(own: Range) -> None:
    values = [own.from_unit(i / 5000) for i in range(5000)]
    assert (min(values), max(values)) == pytest.approx(RANGES[own], rel=2e-3)
    assert values == sorted(values)
    assert all(own.low <= value <= own.high and own.snap(value) == value for value in values)
    assert all(isinstance(value, int) == own.whole for value in values)
    if own.step or own.kind == "int":
        counts = [values.count(value) for value in set(values)]
        assert max(counts) - min(counts) <= 1
        assert set(own.grid_points()) == set(values)


def test_levels_hold_both_ends() -> None:
    assert Range("log", 1e-4, 1e-2, levels=5).grid_points() == (1e-4, 3.162e-4, 1e-3, 3.162e-3, 1e-2)
    assert Range("uniform", 0.0, 1.0, levels=3).grid_points() == (0.0, 0.5, 1.0)
    assert Range("int", 1, 3, levels=10).grid_points() == (1, 2, 3)
    assert Range("log_int", 8, 128, levels=5).grid_points() == (8, 16, 32, 64, 128)
    assert Range("log", 1e-4, 1e-2, levels=1).grid_points() == (1e-3,)
    assert Range("uniform", 0.0, 1.0).grid_points() == ()


@pytest.mark.parametrize("name", ["conditions", "baselines", "included", "ranges"])
def test_asking_for_everything_gives_the_cells_of_the_grid(name: str) -> None:
    """Two ways to the same cells: combinations made all at once, and choices made one after the other."""
    found = load_sweep(Path(__file__).parent / "corpus" / f"{name}.yaml")
    assert found.space is not None
    fixed = {uid for cell in found.cells for uid in cell.baselines.values()}
    seed, uids = found.axes["seed"][0], set()
    for assignment in everything(found.space):
        cell = cell_at(found.space, assignment, int(seed or 0))
        if isinstance(cell, Cell):
            assert cell.uid not in uids
            uids.add(cell.uid)
    own = {cell.uid for cell in found.cells if cell.labels["seed"] == seed}
    assert uids <= own <= uids | fixed


def everything(space: Space) -> Iterator[Assignment]:
    """Every assignment: the last choice that has another value left takes it, those after it begin anew."""
    for task in space.tasks:
        path: list[int] = []
        while True:
            asked: list[int] = []

            def suggest(dimension: Dimension, path: list[int] = path, asked: list[int] = asked) -> Label:
                asked.append(len(dimension.choices))
                if len(path) < len(asked):
                    path.append(0)
                return dimension.choices[path[len(asked) - 1]]

            yield space.ask(task, suggest)
            while path and path[-1] == asked[len(path) - 1] - 1:
                path.pop()
            if not path:
                break
            path[-1] += 1
