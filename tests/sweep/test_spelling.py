# ruff: noqa: E501 - a line each
"""Shorthands of the language: each means exactly what its canonical form means, down to identities and labels."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from dse.errors import UserError
from dse.recipes import RECIPES
from dse.sweep import Sweep, load_sweep, schema_json
from dse.sweep.language.source import read_source
from dse.tasks import TASKS


def named(pattern: str, but: str = "") -> str:
    """The gallery's recipes whose names fit, as a list in YAML."""
    return ", ".join(name for name in RECIPES if fnmatchcase(name, pattern) and name != but)


HEAD = "tasks: [regression]\nrecipes: [mxfp4, nvfp4]\nseeds: 1\n"

SAME = {
    "one word for a list": ("tasks: regression\nrecipes: mxfp4\n", "tasks: [regression]\nrecipes: [mxfp4]\n"),
    "words with commas": ("tasks: regression\nrecipes: mxfp4, nvfp4\n", "tasks: [regression]\nrecipes: [mxfp4, nvfp4]\n"),
    "singular keys": ("task: regression\nrecipe: mxfp4\nbaselines: bf16\n", "tasks: [regression]\nrecipes: [mxfp4]\n"),
    "case of keys": ("Tasks: [regression]\nRECIPES: [mxfp4]\n", "tasks: [regression]\nrecipes: [mxfp4]\n"),
    "case of names": (
        "tasks: [Regression]\nrecipes: [MXFP4, NVFP4-4over6, mine: {base: NvFP4}]\nbaseline: BF16\n",
        "tasks: [regression]\nrecipes: [mxfp4, nvfp4_4over6, mine: {base: nvfp4}]\n",
    ),
    "all recipes": ("tasks: [regression]\nrecipes: all\nseeds: 1\n", f"tasks: [regression]\nrecipes: [{', '.join(RECIPES)}]\nseeds: 1\n"),
    "a pattern": ("tasks: [regression]\nrecipes: ['nvfp4*', mxfp4]\n", f"tasks: [regression]\nrecipes: [{named('nvfp4*')}, mxfp4]\n"),
    "a pattern and one of its own": ("tasks: [regression]\nrecipes: ['mxfp4_*', mxfp4_away]\n", f"tasks: [regression]\nrecipes: [{named('mxfp4_*', 'mxfp4_away')}, mxfp4_away]\n"),
    "all tasks": ("tasks: all\nrecipes: [mxfp4]\n", f"tasks: [{', '.join(TASKS)}]\nrecipes: [mxfp4]\n"),
    "mappings for lists": (
        "tasks: {regression: {size: small}, image: }\nrecipes: {mxfp4: , mine: {base: nvfp4}}\n",
        "tasks: [regression: {size: small}, image]\nrecipes: [mxfp4, mine: {base: nvfp4}]\n",
    ),
    "names beside options": (
        "tasks: [{name: regression, size: small}]\nrecipes: [{name: mine, base: nvfp4, '*.block': 32}]\n",
        "tasks: [regression: {size: small}]\nrecipes: [mine: {base: nvfp4, '*.block': 32}]\n",
    ),
    "a task as it is printed": ("tasks: ['regression(size=small)', lm]\nrecipes: [mxfp4]\n", "tasks: [regression: {size: small}, lm]\nrecipes: [mxfp4]\n"),
    "a name for a recipe": ("tasks: [lm]\nrecipes: [mine: nvfp4]\n", "tasks: [lm]\nrecipes: [mine: {base: nvfp4}]\n"),
    "recipe for base": ("tasks: [lm]\nrecipes: [mine: {recipe: nvfp4}]\n", "tasks: [lm]\nrecipes: [mine: {base: nvfp4}]\n"),
    "settings without training": (HEAD + "lr: 1e-3\nsteps: 9\n", HEAD + "training: {lr: 1e-3, steps: 9}\n"),
    "settings beside a task": (
        "tasks: [lm: {steps: 9, lr: 1e-3, size: small}]\nrecipes: [mxfp4]\n",
        "tasks: [lm: {size: small, training: {steps: 9, lr: 1e-3}}]\nrecipes: [mxfp4]\n",
    ),
    "prefix inside training": (HEAD + "training: {training.lr: 1e-3}\n", HEAD + "training: {lr: 1e-3}\n"),
    "axes without a prefix": (
        HEAD + "grid: {lr: [1e-3, 3e-3], size: [small, tiny], steps: [4]}\n",
        HEAD + "grid: {training.lr: [1e-3, 3e-3], task.size: [small, tiny], training.steps: [4]}\n",
    ),
    "nested axes": (HEAD + "grid: {training: {lr: [1e-3], batch: [8, 16]}}\n", HEAD + "grid: {training.lr: [1e-3], training.batch: [8, 16]}\n"),
    "values with commas": (HEAD + "grid: {lr: '1e-3, 3e-3', G.rounding: nearest_even, '*.block': '16,32'}\n", HEAD + "grid: {training.lr: [1e-3, 3e-3], G.rounding: [nearest_even], '*.block': [16, 32]}\n"),
    "one value": (HEAD + "grid: {'*.block': 16, wgrad.rotation: {hadamard: {size: 32}}}\n", HEAD + "grid: {'*.block': [16], wgrad.rotation: [{hadamard: {size: 32}}]}\n"),
    "nested points": (
        HEAD + "grid: {G: {rounding: [nearest_even, stochastic]}, '*': {block: [16]}}\nbaseline: {recipe: mxfp8, W: {rounding: nearest_even}}\n",
        HEAD + "grid: {G.rounding: [nearest_even, stochastic], '*.block': [16]}\nbaseline: {recipe: mxfp8, W.rounding: nearest_even}\n",
    ),
    "other people's words": (
        HEAD + "learning_rate: 1e-3\ngrid: {batch_size: [8]}\n",
        HEAD + "training: {lr: 1e-3}\ngrid: {training.batch: [8]}\n",
    ),
    "other people's ranges": (
        HEAD + "search: {method: random, trials: 4}\ngrid: {lr: {loguniform: [1e-4, 1e-2]}}\n",
        HEAD + "search: {method: random, trials: 4}\ngrid: {training.lr: {log: [1e-4, 1e-2]}}\n",
    ),
    "betas": (HEAD + "grid: {betas: [0.9, 0.95]}\n", HEAD + "grid: {training.betas: [[0.9, 0.95]]}\n"),
    "objects as they are printed": (
        HEAD + "grid: {wgrad.rotation: [none, 'hadamard(size=32, signs=fixed)']}\nexclude: [{wgrad.rotation: 'hadamard(size=32, signs=fixed)', recipe: mxfp4}]\n",
        HEAD + "grid: {wgrad.rotation: [none, {hadamard: {size: 32, signs: fixed}}]}\nexclude: [{wgrad.rotation: {hadamard: {size: 32, signs: fixed}}, recipe: mxfp4}]\n",
    ),
    "case of paths and values": (
        HEAD + "grid: {g.Rounding: [Nearest-Even, STOCHASTIC], Training.LR: [1e-3], '*.Scale': [E8M0, UE4M3]}\ntraining: {Optimizer: AdamW, weight-decay: 0.1}\n",
        HEAD + "grid: {G.rounding: [nearest_even, stochastic], training.lr: [1e-3], '*.scale': [e8m0, ue4m3]}\ntraining: {optimizer: adamw, weight_decay: 0.1}\n",
    ),
    "numbers in quotes": (HEAD + "training: {lr: '1e-3', steps: 1e1}\ngrid: {'*.block': ['16']}\n", HEAD + "training: {lr: 0.001, steps: 10}\ngrid: {'*.block': [16]}\n"),
    "yes and no": ("tasks: [lm: {qk_norm: yes}]\nrecipes: [mxfp4]\n", "tasks: [lm: {qk_norm: true}]\nrecipes: [mxfp4]\n"),
    "seeds with commas": (HEAD.replace("1\n", "'0, 2'\n"), HEAD.replace("1\n", "[0, 2]\n")),
    "one rule": (HEAD + "lr: 1e-3\nexclude: {recipes: 'nv*'}\n", HEAD + "training: {lr: 1e-3}\nexclude: [{recipe: nvfp4}]\n"),
    "one condition": (
        HEAD + "grid: {G.rounding: [nearest_even, stochastic]}\nwhen: {if: {recipe: mxfp4, G.rounding: stochastic}, grid: {G.rounding.bits: 4}}\n",
        HEAD + "grid: {G.rounding: [nearest_even, stochastic]}\nwhen: [{if: {recipe: mxfp4, G.rounding: stochastic}, grid: {G.rounding.bits: [4]}}]\n",
    ),
    "ends of ranges": (
        HEAD + "search: {method: random, trials: 4}\ngrid: {lr: {min: 1e-4, max: 1e-2, log: true}, clip: {low: 0, high: 2}, steps: {min: 4, max: 8}}\n",
        HEAD + "search: {method: random, trials: 4}\ngrid: {training.lr: {log: [1e-4, 1e-2]}, training.clip: {uniform: [0, 2]}, training.steps: {int: [4, 8]}}\n",
    ),
    "zipped": (HEAD + "zip: {lr: 1e-3, batch: 8}\n", HEAD + "zip: {training.lr: [1e-3], training.batch: [8]}\n"),
    "paths of a baseline": (HEAD + "baseline: {recipe: bf16, lr: 3e-3}\n", HEAD + "baseline: {recipe: bf16, training.lr: 3e-3}\n"),
    "schedules of the rate": (HEAD + "grid: {schedule: [cosine, linear]}\n", HEAD + "grid: {training.schedule: [cosine, linear]}\n"),
    "a place for anchors": (HEAD + "x-unused: 1\n", HEAD),
    "merge keys": (
        "x-common: &c {lr: 1e-3, steps: 9}\ntasks:\n- lm: {training: {<<: *c, steps: 4}}\n- image: {training: {steps: 4, <<: [*c, {batch: 8}]}}\nrecipes: [mxfp4]\n",
        "tasks:\n- lm: {training: {lr: 1e-3, steps: 4}}\n- image: {training: {lr: 1e-3, steps: 4, batch: 8}}\nrecipes: [mxfp4]\n",
    ),
}  # fmt: skip


def content(sweep: Sweep) -> list[Any]:
    return [(cell.uid, cell.config, dict(cell.labels), cell.baseline_uid) for cell in sweep.cells]


@pytest.mark.parametrize(("short", "canonical"), SAME.values(), ids=SAME)
def test_a_shorthand_means_its_canonical_form(sweep: Callable[[str], Sweep], short: str, canonical: str) -> None:
    found = content(sweep(short))
    assert found
    assert found == content(sweep(canonical))


WORDS = {
    "nested points",
    "other people's words",
    "other people's ranges",
    "case of keys",
    "case of names",
    "case of paths and values",
    "numbers in quotes",
    "yes and no",
    "merge keys",
}
"""Other spellings of a word: the loader takes them, and an editor marks them, as it should."""


@pytest.mark.parametrize("name", [name for name in SAME if name not in WORDS])
def test_an_editor_takes_the_shorthands(write: Callable[[str], Path], name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(schema_json())
    for text in SAME[name]:
        errors = [error.message[:200] for error in validator.iter_errors(read_source(write(text)).data)]
        assert not errors


def test_operands_let_their_rotation_go(sweep: Callable[[str], Sweep]) -> None:
    """nvfp4 rotates wgrad: with both operands in BF16 nothing is left to rotate, and no axis asked for it."""
    mine, without = (
        sweep("""
        tasks: [regression]
        recipes: [mine: {base: nvfp4, wgrad: bf16}, same: {base: nvfp4, wgrad: bf16, wgrad.rotation: none}]
        seeds: 1
        baseline: fp32
    """).cells[-1],
        None,
    )
    assert without is None
    assert mine.also  # the second is the same trial
    assert "rotation" not in str(mine.trial.spec["recipe"]["wgrad"])
    axis = sweep("tasks: [regression]\nrecipes: [nvfp4]\nseeds: 1\ngrid: {wgrad: [bf16]}\n")
    assert [cell.config for cell in axis.cells] == ["bf16", "nvfp4 wgrad=bf16"]


def test_a_rotation_that_was_asked_for_is_not_dropped(refusal: Callable[[str], str]) -> None:
    line = refusal("tasks: [lm]\nrecipes: [mine: {base: nvfp4, wgrad: bf16, wgrad.rotation: hadamard}]\n")
    assert line.startswith("x.yaml:2: recipes: wgrad.rotation: neither operand has a block quantizer")


MISTAKES = {
    "seed: 3": "x.yaml:4: unknown key 'seed'; write seeds: [3] for this seed, or seeds: 3 for so many",
    "lr: [1e-3, 3e-3]": "x.yaml:4: unknown key 'lr'; to vary it write grid: {training.lr: [values]}",
    "size: small": "x.yaml:4: unknown key 'size'; it is an option of a task: write tasks: [{name: {size: value}}]",
    "G.rounding: stochastic": "x.yaml:4: unknown key 'G.rounding'; to vary it write grid: {'G.rounding': [values]}",
    "training: {lr: [1e-3, 3e-3]}": "x.yaml:4: training: lr has several values; to vary it write grid: {training.lr",
    "grid: {lr: [1], training.lr: [2]}": "x.yaml:4: 'training.lr' says the same as 'lr' on line 4: training.lr",
    "grid: {rounding: [up]}": "x.yaml:4: grid: rounding: no quantization point 'rounding'; write '*.rounding' for all",
    "grid: {lr: {min: 1}}": "x.yaml:4: training.lr: a range is {min: 1, max: 8}, with log: true",
    "lr: 1\ntraining: {lr: 2}": "x.yaml:4: lr is said twice: here and under training",
    "training:\n  <<: 3": "x.yaml:5: '<<' merges a mapping, or a list of mappings: <<: *anchor",
    "include: $NOWHERE_AT_ALL/x.yaml": "x.yaml:4: include: '$NOWHERE_AT_ALL/x.yaml': the environment variable NOWHERE",
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.items(), ids=MISTAKES)
def test_what_could_mean_two_things_names_the_right_word(refusal: Callable[[str], str], text: str, line: str) -> None:
    assert refusal(f"tasks: [regression]\nrecipes: [mxfp4, nvfp4]\nseeds: 1\n{text}\n")[: len(line)] == line


@pytest.mark.parametrize(
    ("recipes", "line"),
    [
        ("['zz*']", "x.yaml:1: recipes: no recipe matches 'zz*'; valid: "),
        (
            "['mxfp4 G.rounding=stochastic']",
            "x.yaml:1: recipes: unknown recipe 'mxfp4 G.rounding=stochastic'; a changed",
        ),
        ("[{base: nvfp4, wgrad: bf16}]", "x.yaml:1: recipes: a changed recipe needs a name of its own: {mine: {base:"),
    ],
)
def test_recipes_that_need_a_name(refusal: Callable[[str], str], recipes: str, line: str) -> None:
    assert refusal(f"recipes: {recipes}\ntasks: [lm]\n")[: len(line)] == line


def test_errors_of_what_was_written_out_name_the_line(refusal: Callable[[str], str]) -> None:
    """Shorthands move values to other places of the data; the lines are those of the file."""
    common = "x-common: &c\n  lr: 1e-3\n  steps: 0\n"
    assert refusal(common + "tasks: [lm]\nrecipes: [mxfp4]\ntraining: {<<: *c}\n").startswith(
        "x.yaml:3: training: steps"
    )
    assert refusal("tasks:\n  lm:\n  image:\n    size: huge\nrecipes: mxfp4\n").startswith("x.yaml:4: tasks: ")
    assert refusal("tasks: lm\nrecipes: mxfp4\ngrid:\n  lr:\n  - 1\n  - x\n").startswith("x.yaml:6: grid: training: lr")


def test_files_of_other_editors(write: Callable[[str], Path]) -> None:
    text = "tasks: [lm]\nrecipes: [mxfp4]\n"
    wanted = [cell.uid for cell in load_sweep(write(text)).cells]
    for raw in (
        text.encode("utf-16"),
        text.encode("utf-8-sig"),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
    ):
        Path("x.yaml").write_bytes(raw)
        assert [cell.uid for cell in load_sweep("x.yaml").cells] == wanted
    Path("x.yaml").write_bytes(text.encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"x.yaml:\d+: not UTF-8 text"):
        load_sweep("x.yaml")


def test_paths_with_variables(write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBRARY", str(tmp_path / "lib"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "base.yaml").write_text("tasks: [lm]\n", encoding="utf-8")
    for path in ("$LIBRARY/base.yaml", "${LIBRARY}/base.yaml", "~/lib/base.yaml"):
        assert load_sweep(write(f"include: {path}\nrecipes: [mxfp4]\n")).cells
