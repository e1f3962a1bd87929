"""`exclude` and what it leaves."""

from collections import Counter
from collections.abc import Callable

from dse.sweep import Sweep

Load = Callable[[str], Sweep]
BASE = """
tasks: [lm, image: {size: small}]
recipes: [bf16, mxfp4, mxfp8]
seeds: 2
grid:
  '*.block': [8, 16]
  wgrad.rotation: [none, {hadamard: {size: 8}}]
exclude:
"""


def test_partial_matches(sweep: Load) -> None:
    found = sweep(BASE + "  - {recipe: mxfp8, '*.block': 16}\n  - {wgrad.rotation: hadamard(size=8), seed: 1}\n")
    assert len(found.cells) == 2 * 2 + 2 * (8 + 8 - 4 - 4 + 1)
    assert Counter(e.reason for e in found.excluded) == {"excluded on line 8": 8, "excluded on line 9": 6}
    assert not any(c.labels["recipe"] == "mxfp8" and c.labels["*.block"] == 16 for c in found.cells)


def test_values_may_be_lists_and_spelled_as_in_the_grid(sweep: Load) -> None:
    found = sweep(BASE + "  - {wgrad.rotation: [off, {hadamard: {size: 8}}], '*.block': 16.0}\n")
    assert {cell.labels["*.block"] for cell in found.cells} == {None, 8}


def test_a_task_by_its_name_or_its_label(sweep: Load) -> None:
    for word in ("image", "image(size=small)"):
        found = sweep(BASE + f"  - {{task: {word}}}\n")
        assert {cell.labels["task"] for cell in found.cells} == {"lm"}
        assert len(found.excluded) == 2 * 9


def test_a_task_by_its_label_with_a_start(sweep: Load) -> None:
    text = "tasks: [lm, lm: {steps: 9, start: bf16}]\nrecipes: [bf16, mxfp4]\nseeds: 2\nexclude:\n"
    found = sweep(text + "  - {task: 'lm(steps=9, start=bf16)', recipe: mxfp4}\n")
    assert Counter(e.labels["task"] for e in found.excluded) == {"lm(steps=9, start=bf16)": 2}


def test_a_baseline_stays_while_something_is_compared_with_it(sweep: Load) -> None:
    found = sweep(BASE + "  - {recipe: bf16}\n  - {recipe: [mxfp4, mxfp8], task: image}\n")
    assert Counter((c.labels["task"], c.is_baseline) for c in found.cells) == {("lm", True): 2, ("lm", False): 16}
    assert Counter(e.labels["recipe"] for e in found.excluded) == {"bf16": 2, "mxfp4": 8, "mxfp8": 8}
