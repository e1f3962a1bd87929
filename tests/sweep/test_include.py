"""`include`: what a sweep has from other files, and where its errors are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.sweep import Sweep, load_sweep

Write = Callable[[str], Path]
LIBRARY = """\
tasks: [lm, image]
recipes:
  - bf16
  - soft: {base: mxfp4, G.rounding: stochastic}
seeds: 2
training: {lr: 1e-3, steps: 5}
grid:
  '*.block': [8, 16]
exclude:
  - {recipe: soft, '*.block': 8}
"""


@pytest.fixture
def load(write: Write) -> Callable[..., Sweep]:
    """The sweep of x.yaml beside other files."""

    def inner(text: str, **others: str) -> Sweep:
        path = write(text)
        for name, content in others.items():
            other = Path(name.replace("__", "/") + ".yaml")
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_text(content, encoding="utf-8")
        return load_sweep(path)

    return inner


def refusal(load: Callable[..., Sweep], text: str, **others: str) -> str:
    with pytest.raises(UserError) as caught:
        load(text, **others)
    return str(caught.value)


def test_a_file_adds_to_what_it_includes(load: Callable[..., Sweep]) -> None:
    library = LIBRARY[: LIBRARY.index("exclude")]
    found = load("include: lib/a.yaml\ngrid: {'*.block': [32]}\n", lib__a=library)
    assert found.axes == {
        "task": ("lm", "image"),
        "recipe": ("bf16", "soft"),
        "seed": (0, 1),
        "*.block": (32,),
    }
    own = "name: own\nseeds: [5]\ntraining: {lr: 2}\nrecipes: [bf16, again: {base: soft, G.block: 4}]\n"
    more = load("include: [lib/a.yaml]\n" + own, lib__a=LIBRARY)
    assert (more.name, more.axes["seed"], more.axes["recipe"]) == ("own", (5,), ("bf16", "soft", "again"))
    assert {(cell.trial.training.lr, cell.trial.training.steps) for cell in more.cells} == {(2.0, 5)}
    assert {e.reason for e in more.excluded} == {"excluded on line 10 of lib/a.yaml"}
    assert more.text.endswith(f"# included: lib/a.yaml\n{LIBRARY}")


def test_a_name_is_not_included(load: Callable[..., Sweep]) -> None:
    assert load("include: a.yaml\n", a="name: theirs\n" + LIBRARY).name == "x"


def test_a_file_is_read_once(load: Callable[..., Sweep]) -> None:
    found = load("include: [b.yaml, c.yaml]\n", a=LIBRARY, b="include: a.yaml\nseeds: 1\n", c="include: a.yaml\n")
    assert found.axes["seed"] == (0,)
    assert found.text.count("# included") == 3


def test_errors_are_told_where_they_are(load: Callable[..., Sweep]) -> None:
    main = "include: a.yaml\n"
    bad = LIBRARY.replace("[8, 16]", "[8, sixteen]")
    assert refusal(load, main, a=bad) == "a.yaml:8: grid: *.block: expected int, found 'sixteen'"
    assert refusal(load, main, a=LIBRARY + "sed: 1\n").startswith("a.yaml:11: unknown key 'sed'; did you mean 'seeds'?")
    assert refusal(load, main, a="a: [").startswith("a.yaml:1: not valid YAML")
    assert refusal(load, main, a="# nothing\n").startswith("a.yaml: the file is empty")
    assert (
        refusal(load, main + "recipes: [soft: {base: nvfp4}]\n", a=LIBRARY)
        == "x.yaml:2: recipes: 'soft' is listed twice"
    )
    assert refusal(load, main + "when: [{if: {recipe: soft}, grid: {'*.block': [4]}}]\n", a=LIBRARY).startswith(
        "x.yaml:2: when: *.block has values already (line 8 of a.yaml), and a cell can meet both"
    )
    assert refusal(load, main, a="recipes: [bf16]\n").startswith("x.yaml:1: the key 'tasks' is missing")


def test_files_that_include_each_other(load: Callable[..., Sweep]) -> None:
    assert refusal(load, "include: x.yaml\n") == "x.yaml:1: include: the files include each other: x.yaml -> x.yaml"
    assert refusal(load, "include: [d/a.yaml]\n", d__a="seeds: 1\ninclude:\n- ../x.yaml\n") == (
        "d/a.yaml:3: include: the files include each other: x.yaml -> d/a.yaml -> x.yaml"
    )


def test_files_that_are_not_there(load: Callable[..., Sweep]) -> None:
    assert refusal(load, "include: lib/aa.yaml\n", lib__a=LIBRARY) == (
        "x.yaml:1: include: 'lib/aa.yaml' is no file; did you mean 'lib/a.yaml'?"
    )
    for name in ("''", ".", "/dev/zero", "/", '"a\\0"', "n" * 5000, "a/../..//"):
        assert refusal(load, f"include: [{name}]\n").startswith("x.yaml:1: include: ")
    assert refusal(load, "include: {a: 1}\n").startswith("x.yaml:1: include: expected text, found {'a': 1}")
