"""`baseline`: a recipe, a configuration, or several by name."""

from collections.abc import Callable

from dse.sweep import Cell, Sweep

Load = Callable[[str], Sweep]
FILE = """
tasks: [lm]
recipes: [bf16, nvfp4, mxfp4]
seeds: 1
grid: {training.lr: [1, 2], '*.block': [16, 32]}
baseline: """


def by_config(sweep: Sweep) -> dict[str, Cell]:
    return {cell.config: cell for cell in sweep.cells}


def test_a_configuration(sweep: Load) -> None:
    found = sweep(FILE + "{recipe: nvfp4, '*.block': 16}")
    cells = by_config(found)
    assert [cell.config for cell in found.cells if cell.is_baseline] == [
        "nvfp4 training.lr=1 *.block=16",
        "nvfp4 training.lr=2 *.block=16",
    ]
    for lr in (1, 2):
        for config in (f"nvfp4 training.lr={lr} *.block=32", f"mxfp4 training.lr={lr} *.block=16"):
            assert cells[config].baseline_uid == cells[f"nvfp4 training.lr={lr} *.block=16"].uid
    assert found.merged == 0
    assert len(found.cells) == 4 + 4  # bf16 has no blocks: excluded
    assert {e.labels["recipe"] for e in found.excluded} == {"bf16"}


def test_training_of_its_own(sweep: Load) -> None:
    found = sweep(FILE + "{recipe: bf16, training.lr: 2}")
    assert [(cell.config, cell.trial.training.lr) for cell in found.cells if cell.is_baseline] == [
        ("bf16 training.lr=2", 2.0)
    ]
    assert {cell.baseline_uid for cell in found.cells} == {found.cells[0].uid}


def test_what_stands_on_no_axis_shows_in_the_name(sweep: Load) -> None:
    for text, name in (
        ("{recipe: bf16, training.clip: 0}", "bf16 training.clip=0"),
        ("{unclipped: {recipe: bf16, training.clip: 0}}", "unclipped"),
        ("{recipe: nvfp4, G.rounding: up}", "nvfp4 G.rounding=up"),
    ):
        found = sweep(FILE + text)
        assert found.axes["recipe"][0] == name
        assert {cell.config for cell in found.cells if cell.is_baseline} == {
            f"{name} training.lr=1",
            f"{name} training.lr=2",
        }
        assert list(found.cells[0].baselines) == [name]


def test_several(sweep: Load) -> None:
    found = sweep(FILE + "[bf16, reference: nvfp4, tuned: {recipe: bf16, training.lr: 2}]")
    cells = by_config(found)
    assert [cell.config for cell in found.cells if cell.is_baseline] == ["bf16 training.lr=1", "bf16 training.lr=2"]
    one = cells["mxfp4 training.lr=1 *.block=16"]
    assert one.baselines == {
        "bf16": cells["bf16 training.lr=1"].uid,
        "reference": cells["nvfp4 training.lr=1"].uid,
        "tuned": cells["bf16 training.lr=2"].uid,
    }
    assert one.baseline_uid == one.baselines["bf16"]
    assert cells["nvfp4 training.lr=1"].also[0]["*.block"] == 16  # NVFP4's own blocks
    assert len({cell.uid for cell in found.cells}) == len(found.cells) == 2 + 8


def test_further_baselines_run_before_the_rest(sweep: Load) -> None:
    found = sweep("{tasks: [lm], recipes: [mxfp4, mxfp8], seeds: 2, baseline: [fp32, bf16, nvfp4]}")
    assert [cell.config for cell in found.cells] == [
        *["fp32"] * 2, *["bf16", "nvfp4"] * 2, *["mxfp4", "mxfp8"] * 2
    ]  # fmt: skip


def test_a_bare_recipe_stays_as_it_is_and_a_configuration_varies(sweep: Load) -> None:
    text = "{tasks: [lm], recipes: [mxfp4], seeds: 1, grid: {'*.block': [16]}, baseline: BASE}"
    assert [c.config for c in sweep(text.replace("BASE", "{recipe: mxfp4}")).cells] == ["mxfp4", "mxfp4 *.block=16"]
