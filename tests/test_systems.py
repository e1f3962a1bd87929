"""Every recipe is of a published system, and docs/systems.md is the list of them.

``python -m tests.test_systems`` writes the page.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from textwrap import fill

from dse.optim import OPTIMIZERS, SECOND_MOMENTS
from dse.recipes import RECIPES
from dse.recipes.systems import SYSTEMS, System

PAGE = Path(__file__).parents[1] / "docs" / "systems.md"
HEAD = """\
# Published systems

Where each published training system stands here: its recipes (`dse recipes NAME` shows one), options of a task or a
training that are part of it, and what is left out, with the reason. The list is `dse.recipes.systems.SYSTEMS`.
"""


def item(system: System) -> str:
    """A system as an item of the page's lists."""
    source = "" if system.source == "-" else f" ({system.source})"
    recipes = ": " + ", ".join(f"`{name}`" for name in system.recipes) if system.recipes else ""
    text = f"- **{system.name}**{source}{recipes}."
    text += f" Options: {system.options}." * bool(system.options)
    text += f" Left out: {system.left_out}." * bool(system.left_out)
    return fill(text, 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def page() -> str:
    with_recipes = [item(system) for system in SYSTEMS if system.recipes]
    without = [item(system) for system in SYSTEMS if not system.recipes]
    return "\n".join([HEAD, *with_recipes, "", "## Without a recipe of their own", "", *without, ""])


def test_the_page_is_the_list() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.test_systems writes it"


def test_every_recipe_has_one_place_and_every_system_a_recipe_an_option_or_a_reason() -> None:
    listed = Counter(name for system in SYSTEMS for name in system.recipes)
    assert set(listed) - set(RECIPES) == set()
    assert set(RECIPES) - set(listed) == set(), "recipes of no system: add them to dse/recipes/systems.py"
    assert [name for name, times in listed.items() if times > 1] == []
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
    for system in SYSTEMS:
        assert system.source
        assert system.recipes or system.options or system.left_out, system.name


def test_a_system_s_source_is_that_of_its_recipes() -> None:
    """Of each paper that a system names, some recipe of it does, too."""
    for system in SYSTEMS:
        papers = set(re.findall(r"\d{4}\.\d{5}", system.source))
        if papers and system.recipes:
            named = " ".join(RECIPES[name].source for name in system.recipes)
            assert papers & set(re.findall(r"\d{4}\.\d{5}", named)), system.name


def test_optimizers_and_moments_that_are_named_exist() -> None:
    text = " ".join(system.options for system in SYSTEMS)
    for name in re.findall(r"second_moment: (\w+)", text):
        assert name in SECOND_MOMENTS
    named = " ".join(re.findall(r"training\.optimizer: ([\w, ]+)", text))
    assert set(re.findall(r"\b(?:muon|stable)\w*", named)) == set(OPTIMIZERS) - {"adamw", "sgd"}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
