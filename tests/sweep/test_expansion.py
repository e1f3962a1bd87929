"""From text to cells: how many, which labels, which baseline."""

from collections import Counter
from collections.abc import Callable

from dse.recipes import RECIPES
from dse.sweep import Cell, Sweep, config_of

Load = Callable[[str], Sweep]


def by_config(sweep: Sweep) -> dict[str, Cell]:
    return {cell.config: cell for cell in sweep.cells}


def test_tasks_recipes_and_seeds_are_crossed(sweep: Load) -> None:
    found = sweep("""
        tasks: [regression, lm]
        recipes: [mxfp4, bf16, nvfp4]
        seeds: 2
    """)
    assert found.name == "x"
    assert len(found.cells) == 2 * 3 * 2
    assert found.axes == {"task": ("regression", "lm"), "recipe": ("bf16", "mxfp4", "nvfp4"), "seed": (0, 1)}
    assert [cell.is_baseline for cell in found.cells] == [True] * 4 + [False] * 8
    assert [cell.labels["seed"] for cell in found.cells] == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]
    assert found.cells[4].labels == {"task": "regression", "recipe": "mxfp4", "seed": 0}
    assert len({cell.uid for cell in found.cells}) == len(found.cells)
    baselines = {cell.uid: cell for cell in found.cells if cell.is_baseline}
    for cell in found.cells:
        baseline = baselines[cell.baseline_uid].trial
        assert (baseline.task, baseline.seed) == (cell.trial.task, cell.trial.seed)
        assert cell.trial.baseline().uid == cell.baseline_uid


def test_baselines_are_added(sweep: Load) -> None:
    found = sweep("{tasks: [lm], recipes: [mxfp4], seeds: [7]}")
    assert [(cell.config, cell.is_baseline) for cell in found.cells] == [("bf16", True), ("mxfp4", False)]


def test_another_baseline(sweep: Load) -> None:
    found = sweep("{tasks: [lm], recipes: [mxfp4, bf16], seeds: 1, baseline: fp32}")
    assert [cell.config for cell in found.cells] == ["fp32", "mxfp4", "bf16"]
    assert {cell.baseline_uid for cell in found.cells} == {found.cells[0].uid}


def test_the_baseline_alone(sweep: Load) -> None:
    found = sweep("{tasks: [lm], recipes: [bf16], seeds: 3}")
    assert [cell.is_baseline for cell in found.cells] == [True] * 3


def test_numerics_vary_every_recipe_but_the_baseline(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [bf16, mxfp4, mxfp8]
        seeds: 1
        grid:
          '*.block': [8, 16]
          wgrad.rotation: [none, {hadamard: {size: 8, signs: fixed}}]
    """)
    assert len(found.cells) == 1 + 2 * 4
    assert found.cells[0].labels == {"task": "lm", "recipe": "bf16", "seed": 0, "*.block": None, "wgrad.rotation": None}
    assert found.cells[0].config == "bf16"
    cell = by_config(found)["mxfp8 *.block=8 wgrad.rotation=hadamard(size=8, signs=fixed)"]
    assert cell.trial.recipe.name == "mxfp8"
    assert cell.trial.recipe.wgrad.rotation is not None
    assert cell.trial.recipe.dgrad.rotation is None
    assert {cell.trial.recipe.quantizer(p).block for p in ("fprop.lhs", "wgrad.rhs")} == {8}
    assert list(cell.labels) == ["task", "recipe", "seed", "*.block", "wgrad.rotation"]


def test_what_has_no_meaning_for_a_recipe_is_excluded(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [fp32, mxfp4]
        seeds: 2
        grid:
          '*.block': [8, 16]
    """)
    assert Counter(cell.labels["recipe"] for cell in found.cells) == {"bf16": 2, "mxfp4": 4}
    assert [e.labels["recipe"] for e in found.excluded] == ["fp32"] * 4
    assert {e.reason for e in found.excluded} == {
        "*.block: recipe 'fp32' has no block quantizer at *, so 'block' has no meaning there"
    }


def test_training_varies_the_baseline_too(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, image: {training: {lr: 1e-2}}]
        recipes: [mxfp4]
        seeds: 1
        training: {lr: 5e-3, steps: 7}
        grid:
          training.batch: [4, 8]
    """)
    assert [cell.config for cell in found.cells if cell.is_baseline] == [
        "bf16 training.batch=4",
        "bf16 training.batch=8",
    ] * 2
    assert {(c.labels["task"], c.trial.training.lr, c.trial.training.steps) for c in found.cells} == {
        ("lm", 5e-3, 7),
        ("image", 1e-2, 7),
    }
    for cell in found.cells:
        assert cell.trial.training.batch == cell.labels["training.batch"]
        assert cell.baseline_uid == cell.trial.baseline().uid


def test_the_grid_wins_over_training(sweep: Load) -> None:
    found = sweep("{tasks: [lm: {training: {lr: 2}}], recipes: [bf16], seeds: 1, grid: {training.lr: [3]}}")
    assert found.cells[0].trial.training.lr == 3.0


def test_task_options(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, image, regression]
        recipes: [bf16]
        seeds: 1
        grid:
          task.size: [tiny, base]
    """)
    assert [cell.labels["task"] for cell in found.cells] == [
        "lm",
        "lm(size=base)",
        "image",
        "image(size=base)",
        "regression",
    ]
    assert {cell.config for cell in found.cells} == {"bf16"}
    assert [e.labels["task"] for e in found.excluded] == ["regression"]
    assert "size is 'base'" in found.excluded[0].reason


def test_the_same_task_with_other_settings(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, lm: {size: small}, lm: {training: {steps: 9}}]
        recipes: [bf16]
        seeds: 1
    """)
    assert [cell.labels["task"] for cell in found.cells] == ["lm", "lm(size=small)", "lm(steps=9)"]


def test_a_cell_is_known_by_task_config_and_seed(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, lm: {size: small, training: {steps: 9}}, image]
        recipes: [mxfp4, nvfp4, {mine: {base: nvfp4, G.block: 8}}]
        seeds: 2
        grid:
          task.size: [tiny, small]
          training.lr: [1e-3, 1e-2]
          G.rounding: [nearest_even, {stochastic: {bits: 4}}]
    """)
    keys = Counter((cell.labels["task"], cell.config, cell.labels["seed"]) for cell in found.cells)
    assert set(keys.values()) == {1}
    assert all(cell.config == config_of(cell.labels) for cell in found.cells)


def test_inline_recipes(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes:
          - mine: {base: nvfp4, G.rounding: nearest_even, '*.tensor_scale': off}
          - again: {base: mine, wgrad.rotation: null}
        seeds: 1
    """)
    mine, again = (by_config(found)[name].trial.recipe for name in ("mine", "again"))
    assert mine.name == "mine"
    assert mine.summary == "nvfp4 with G.rounding=nearest_even *.tensor_scale=none"
    assert mine.wgrad.rotation == RECIPES["nvfp4"].wgrad.rotation
    assert again.wgrad.rotation is None
    assert again.fprop == mine.fprop != RECIPES["nvfp4"].fprop


def test_cells_that_are_the_same_trial_are_merged(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm]
        recipes: [nvfp4, nvfp4_plain]
        seeds: 1
        grid:
          W.tile: [1]
          wgrad.rotation: [none]
          G.rounding: [nearest_even, stochastic]
    """)
    assert [cell.config for cell in found.cells][1:] == [
        "nvfp4 W.tile=1 wgrad.rotation=none G.rounding=nearest_even",
        "nvfp4 W.tile=1 wgrad.rotation=none G.rounding=stochastic",
    ]
    assert found.merged == 2
    assert [cell.also[0]["recipe"] for cell in found.cells[1:]] == ["nvfp4_plain"] * 2


def test_a_recipe_that_equals_the_baseline_is_the_baseline(sweep: Load) -> None:
    found = sweep("{tasks: [lm], recipes: [twin: {base: fp32, '*': bf16}], seeds: 1}".replace("'*': bf16", _EACH))
    assert [(cell.config, cell.is_baseline) for cell in found.cells] == [("bf16", True)]
    assert found.cells[0].also[0]["recipe"] == "twin"


_EACH = ", ".join(f"{gemm}.{side}: bf16" for gemm in ("fprop", "dgrad", "wgrad") for side in ("lhs", "rhs"))


def test_yaml_spellings(sweep: Load) -> None:
    found = sweep("""
        name: spelled-out.1
        tasks: [regression: {noise: 1}]
        recipes: [mxfp4]
        seeds: [0x10, 3]
        training: {lr: 1e-3, betas: [0, 0.99], clip: 1_0}
        grid:
        exclude:
    """)
    trial = found.cells[-1].trial
    assert found.name == "spelled-out.1"
    assert found.axes["seed"] == (16, 3)
    assert trial.spec["options"] == {"noise": 1.0}
    assert isinstance(trial.spec["options"]["noise"], float)
    assert trial.training.betas == (0.0, 0.99)
    assert trial.training.lr == 1e-3
    assert isinstance(trial.training.clip, float)
