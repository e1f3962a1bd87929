"""`exclude` by cost, and time as an objective of a search."""

from collections.abc import Callable

import pytest

from dse.cost import overhead
from dse.cost.cost_places import CostPlace
from dse.cost.limits import cost_limit, step_against_bf16
from dse.errors import UserError
from dse.recipes import RECIPES
from dse.results.record import OK
from dse.run.search.objectives import OBJECTIVES, USUAL, Mark, values
from dse.sweep import Sweep

Load = Callable[[str], Sweep]
BASE = """
tasks: [lm]
recipes: [bf16, mxfp4, nvfp4, ue5m3, mxfp8]
seeds: 1
exclude:
"""


def left(sweep: Sweep) -> set[str]:
    return {str(cell.labels["recipe"]) for cell in sweep.cells}


def test_recipes_are_left_out_by_their_cost(sweep: Load) -> None:
    line = (overhead(RECIPES["mxfp4"]) + overhead(RECIPES["nvfp4"])) / 2
    found = sweep(BASE + f"  - {{overhead: '> {line:.2f} %'}}\n")
    assert left(found) == {
        name for name in ("bf16", "mxfp4", "nvfp4", "ue5m3", "mxfp8") if overhead(RECIPES[name]) < line
    }
    assert "nvfp4" not in left(found)
    assert {e.reason for e in found.excluded} == {"excluded on line 5"}


def test_time_depends_on_the_place(sweep: Load) -> None:
    assert "nvfp4" in left(sweep(BASE + "  - {time: '>= 1'}\n"))
    assert "nvfp4" not in left(sweep(BASE + "  - {time: '> 1 at llama3-1b on h200'}\n"))
    assert "ue5m3" not in left(sweep(BASE + "  - {time: '> 100 %'}\n"))  # no unit for its scales
    assert left(sweep(BASE + "  - {time: '> 1', recipe: mxfp8}\n")) == {"bf16", "mxfp4", "nvfp4", "ue5m3", "mxfp8"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("overhead: 15", "overhead is compared with a number, for example '> 15 %'; found 15"),
        ("time: '> fast'", "time is compared with a number"),
        ("time: '> 1 on b2000'", "unknown hardware 'b2000'; did you mean 'b200'?"),
        ("overhead: '> 15 % on b200'", "overhead counts operations"),
        ("overhed: '> 15 %'", "no axis 'overhed'; did you mean 'overhead'?"),
    ],
)
def test_a_limit_that_means_nothing(sweep: Load, rule: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        sweep(BASE + f"  - {{{rule}}}\n")
    assert "exclude: " + told in str(caught.value)
    assert ":5:" in str(caught.value)


def test_time_is_an_objective() -> None:
    assert USUAL == ("gap", "overhead")
    assert set(OBJECTIVES) == {"gap", "overhead", "time"}
    assert step_against_bf16(RECIPES["bf16"]) == 1
    assert cost_limit("time", "> 80 %").value == 0.8


SEARCH = "tasks: [lm]\nrecipes: [mxfp4, nvfp4]\nseeds: 1\nsearch: {method: random, trials: 2}\n"


def test_time_elsewhere_is_an_objective(sweep: Load) -> None:
    objectives = "gap, time at llama3-1b on h200, time"
    own = sweep(SEARCH.replace("random, trials: 2", f"tpe, trials: 2, objectives: '{objectives}'"))
    assert own.search.objectives == ("gap", "time at llama3-1b on h200", "time")
    cells = [next(cell for cell in sweep(SEARCH).cells if cell.labels["recipe"] == "nvfp4")]
    marks = {uid: Mark(OK, metric, 2.0) for uid, metric in ((cells[0].uid, 1.5), (cells[0].baseline_uid, 1.25))}
    gap, there, here = values(cells, marks, own.search.objectives) or ()
    assert gap == 0.25
    assert there == step_against_bf16(RECIPES["nvfp4"], CostPlace("llama3-1b", "h200")) > 1 > here


def test_an_objective_nowhere(sweep: Load) -> None:
    text = SEARCH.replace("random, trials: 2", "tpe, trials: 2, objectives: [time at llama3-8b on b2000]")
    with pytest.raises(UserError, match="unknown hardware 'b2000'; did you mean 'b200'"):
        sweep(text)
