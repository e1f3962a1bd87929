"""Identities do not move: neither with the way a trial is built, nor from one version of the code to the next."""

from collections.abc import Callable
from pathlib import Path

from dse.sweep import Sweep, load_sweep
from dse.trial import Trial

Load = Callable[[str], Sweep]
FILE = """
tasks: [regression: {size: small, training: {steps: 10, batch: 4, lr: 1e-3}}]
recipes: [mxfp4]
seeds: [3]
"""
BASELINE, MXFP4, ROTATED = "2c6fe506e17c9d46", "42448575d10ddbfd", "0f34a8065385a6ad"
"""If these change, results on disk are no longer found: raise the version of what changed instead."""


def test_pinned_identities(sweep: Load) -> None:
    assert [cell.uid for cell in sweep(FILE).cells] == [BASELINE, MXFP4]
    assert [cell.uid for cell in sweep(FILE + "grid: {wgrad.rotation: [{hadamard: {size: 32}}]}\n").cells][1] == ROTATED


def test_prepared_content_is_the_trials_own(sweep: Load) -> None:
    found = sweep("""
        tasks: [lm, diffusion: {process: ddpm}]
        recipes: [bf16, nvfp4, {mine: {base: mxfp8, X.block: 16}}]
        seeds: [0, 5]
        grid: {training.betas: [[0.8, 0.9]], G.rounding: [up, {stochastic: {bits: 4}}]}
    """)
    assert len(found.cells) == 2 * 2 * (1 + 2 * 2)
    for cell in found.cells:
        trial = cell.trial
        assert Trial(trial.task, trial.training, trial.recipe, trial.seed).spec == trial.spec
        assert Trial(trial.task, trial.training, trial.recipe, trial.seed).uid == cell.uid


def test_spelling_and_order_do_not_matter(sweep: Load) -> None:
    one = sweep("""
        tasks: [regression: {size: tiny, noise: 0}]
        recipes: [nvfp4]
        seeds: 2
        training: {lr: 0.002, clip: 1}
    """)
    two = sweep("""
        name: other
        training: {lr: 2e-3}
        seeds: [1, 0]
        recipes: [{renamed: {base: nvfp4, G.rounding: {stochastic: {bits: 8}}}}]
        tasks: [regression]
    """)
    assert {cell.uid for cell in one.cells} == {cell.uid for cell in two.cells}


def test_other_cells_do_not_matter(sweep: Load) -> None:
    few = sweep("{tasks: [lm], recipes: [mxfp4], seeds: 1}")
    many = sweep("{tasks: [image, lm], recipes: [nvfp4, mxfp4], seeds: 3, grid: {G.rounding: [nearest_even, up]}}")
    assert {cell.uid for cell in few.cells} <= {cell.uid for cell in many.cells}


def test_shipped_sweeps_load() -> None:
    folder = Path(__file__).parents[2] / "sweeps"
    found = {path.stem: load_sweep(path) for path in sorted(folder.glob("*.yaml"))}
    assert {"formats", "quickstart", "stabilizers"} <= set(found)
    quickstart = found["quickstart"]
    assert len(quickstart.axes["task"]) == 4
    assert len(quickstart.axes["recipe"]) >= 6
    assert len(quickstart.axes["seed"]) == 3
    assert len(quickstart.cells) == 4 * len(quickstart.axes["recipe"]) * 3
    assert not quickstart.excluded


def test_quartet2s_table_has_all_its_rows() -> None:
    """The forward, backward and full systems of Quartet II's ablation: nothing excluded, no two the same."""
    table = load_sweep(Path(__file__).parents[2] / "sweeps" / "quartet2-table.yaml")
    rows = [str(value) for value in table.axes["recipe"]]
    assert not table.excluded
    assert (sum("fwd" in row for row in rows), sum("bwd" in row for row in rows)) == (9, 20)
    assert len({cell.uid for cell in table.cells}) == len(table.cells) == 2 * len(rows)
