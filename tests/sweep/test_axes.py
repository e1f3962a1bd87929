"""`zip`, `when` and the tasks' own axes: which cells they make."""

from collections.abc import Callable

from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import BFloat16
from dse.recipes import RECIPES
from dse.sweep import Sweep

Load = Callable[[str], Sweep]


def configs(sweep: Sweep, task: str = "lm") -> list[str]:
    return [cell.config for cell in sweep.cells if not cell.is_baseline and cell.labels["task"] == task]


def test_zipped_axes_go_together(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [mxfp4]
        seeds: 1
        grid: {G.rounding: [up, stochastic]}
        zip: {'*.block': [16, 32], training.lr: [1, 2]}
    """)
    assert configs(found) == [
        f"mxfp4 G.rounding={rounding} *.block={block} training.lr={lr}"
        for block, lr in ((16, 1), (32, 2))
        for rounding in ("up", "stochastic")
    ]
    assert [cell.config for cell in found.cells if cell.is_baseline] == ["bf16 training.lr=1", "bf16 training.lr=2"]


def test_several_zips_are_crossed(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [mxfp4]
        seeds: 1
        zip:
          - {X.block: [16, 32], W.block: [32, 64]}
          - {training.lr: [1, 1, 2], training.clip: [1, 2, 2]}
    """)
    assert len(configs(found)) == 2 * 3
    assert found.axes["training.lr"] == (1.0, 2.0)


def test_an_axis_for_some_cells_only(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [mxfp4, nvfp4_plain]
        seeds: 1
        grid:
          wgrad.rotation: [none, hadamard, {hadamard: {size: 64}}]
        when:
          - if: {wgrad.rotation: {not: none}, recipe: mxfp4}
            grid: {wgrad.rotation.signs: [fixed, random]}
          - if: {wgrad.rotation.signs: random}
            zip: {training.lr: [1, 2], G.rounding: [up, stochastic]}
    """)
    assert configs(found) == [
        "mxfp4 wgrad.rotation=none",
        "mxfp4 wgrad.rotation=hadamard wgrad.rotation.signs=fixed",
        "mxfp4 wgrad.rotation=hadamard(size=64) wgrad.rotation.signs=fixed",
        "nvfp4_plain wgrad.rotation=none",
        "nvfp4_plain wgrad.rotation=hadamard",
        "nvfp4_plain wgrad.rotation=hadamard(size=64)",
        "mxfp4 wgrad.rotation=hadamard wgrad.rotation.signs=random training.lr=1 G.rounding=up",
        "mxfp4 wgrad.rotation=hadamard(size=64) wgrad.rotation.signs=random training.lr=1 G.rounding=up",
        "mxfp4 wgrad.rotation=hadamard wgrad.rotation.signs=random training.lr=2 G.rounding=stochastic",
        "mxfp4 wgrad.rotation=hadamard(size=64) wgrad.rotation.signs=random training.lr=2 G.rounding=stochastic",
    ]
    assert [cell.config for cell in found.cells if cell.is_baseline] == [
        "bf16",
        "bf16 training.lr=1",
        "bf16 training.lr=2",
    ]
    assert list(found.cells[0].labels) == [
        "task", "recipe", "seed", "wgrad.rotation", "wgrad.rotation.signs", "training.lr", "G.rounding"
    ]  # fmt: skip


def test_a_plain_name_means_it_with_any_parameters_unless_it_is_there(sweep: Load) -> None:
    text = """
        tasks: [lm]
        recipes: [mxfp4]
        seeds: 1
        grid: {wgrad.rotation: [none, SIZES]}
        when: [{if: {wgrad.rotation: hadamard}, grid: {wgrad.rotation.signs: [fixed, random]}}]
    """
    both = "{hadamard: {size: 32}}, {hadamard: {size: 64}}"
    assert len(configs(sweep(text.replace("SIZES", both)))) == 1 + 2 * 2
    assert len(configs(sweep(text.replace("SIZES", both + ", hadamard")))) == 1 + 2 + 2


def test_tasks_have_axes_of_their_own(sweep: Load) -> None:
    found = sweep("""
        tasks:
          - lm: {training: {steps: 9}, grid: {training.lr: [1, 2]}}
          - image: {zip: {task.size: [tiny, small], training.batch: [4, 8]}}
          - regression: {when: [{if: {G.rounding: up}, grid: {G.block: [8, 16]}}]}
        recipes: [mxfp4]
        seeds: 1
        grid: {training.lr: [3], G.rounding: [up, stochastic]}
    """)
    assert configs(found) == [
        "mxfp4 training.lr=1 G.rounding=up",
        "mxfp4 training.lr=1 G.rounding=stochastic",
        "mxfp4 training.lr=2 G.rounding=up",
        "mxfp4 training.lr=2 G.rounding=stochastic",
    ]
    assert configs(found, "image") == [
        "mxfp4 training.lr=3 G.rounding=up training.batch=4",
        "mxfp4 training.lr=3 G.rounding=stochastic training.batch=4",
    ]
    assert configs(found, "image(size=small)") == [c.replace("=4", "=8") for c in configs(found, "image")]
    assert configs(found, "regression") == [
        "mxfp4 training.lr=3 G.rounding=up G.block=8",
        "mxfp4 training.lr=3 G.rounding=up G.block=16",
        "mxfp4 training.lr=3 G.rounding=stochastic",
    ]
    steps = {cell.labels["task"]: cell.trial.training.steps for cell in found.cells}
    assert steps["lm"] == 9 != steps["image"]


def test_the_same_axis_in_places_that_exclude_each_other(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, image]
        recipes: [mxfp4, nvfp4]
        seeds: 1
        when:
          - {if: {recipe: mxfp4}, grid: {training.lr: [1]}}
          - {if: {recipe: nvfp4, task: lm}, grid: {training.lr: [2]}}
    """)
    assert [(c.labels["task"], c.config) for c in found.cells if not c.is_baseline] == [
        ("lm", "mxfp4 training.lr=1"),
        ("lm", "nvfp4 training.lr=2"),
        ("image", "mxfp4 training.lr=1"),
        ("image", "nvfp4"),
    ]
    for cell in found.cells:
        assert cell.trial.baseline().uid == cell.baseline_uid


def test_a_rule_may_say_what_is_not_excluded(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [mxfp4, nvfp4]
        seeds: 1
        grid: {'*.block': [8, 16, 32]}
        exclude:
          - {recipe: mxfp4, '*.block': {not: [8, 32]}}
          - {recipe: {not: mxfp4}, '*.block': {not: 16}}
    """)
    assert configs(found) == ["mxfp4 *.block=8", "mxfp4 *.block=32", "nvfp4 *.block=16"]


def test_a_whole_quantizer_at_many_points(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [{half: {base: nvfp4, backward: bf16, wgrad.rotation: none}}]
        seeds: 1
        grid: {backward: [bf16, identity]}
    """)
    _, half, free = found.cells
    assert half.trial.recipe.dgrad == half.trial.recipe.wgrad == Gemm(BFloat16(), BFloat16())
    assert free.trial.recipe.dgrad == free.trial.recipe.wgrad == Gemm()
    assert half.trial.recipe.fprop == RECIPES["nvfp4"].fprop
