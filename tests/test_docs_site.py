"""The documentation site: all pages are in its menu, and its reference pages hold everything that is registered."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dse import PUBLIC, cli
from dse.numerics.formats import ELEMENTS, SCALES
from dse.numerics.registry import FAMILIES
from dse.recipes import RECIPES
from dse.sweep.language.option_names import TOP_KEYS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site() -> Any:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(menu: Any) -> Iterator[str]:
    if isinstance(menu, str):
        yield menu
        return
    for item in menu.values() if isinstance(menu, dict) else menu:
        yield from leaves(item)


def test_every_page_is_in_the_menu(site: Any) -> None:
    menu = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert sorted(leaves(menu)) == sorted([*pages, *site.PAGES])


def test_reference_pages_hold_what_is_registered(site: Any) -> None:
    pages = {path: write() for path, write in site.PAGES.items()}
    assert all(f"| `{name}` | {recipe.summary}" in pages["reference/recipes.md"] for name, recipe in RECIPES.items())
    names = {name for family in FAMILIES.values() for name in family}
    assert [name for name in names if name not in pages["reference/options.md"]] == []
    assert all(f"| `{key}` |" in pages["reference/sweep-keys.md"] for key in TOP_KEYS)
    verbs = {command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert all(f"## dse {verb}\n" in pages["reference/commands.md"] for verb in verbs)
    assert all(f".{name}\n" in pages["reference/python.md"] for name in PUBLIC)


def test_the_start_page_links_to_pages(site: Any) -> None:
    assert "](sweeps.md)" in site.home()
    assert "](docs/" not in site.home()


def test_formulas_can_be_drawn(site: Any) -> None:
    pytest.importorskip("latex2mathml", reason="comes with the docs extra")
    found = 0
    for page in (ROOT / "docs").glob("*.md"):
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for shown, inline in re.findall(r"\$\$(.*?)\$\$|(?<!\$)\$(?!\s)([^$]+?)(?<!\s)\$", text, re.DOTALL):
            assert site.formula(shown or inline, bool(shown)).count("<math") == 1
            found += 1
    assert found > 40
    html = site.on_page_content('a <span class="arithmatex">\\(x &lt; y\\)</span>', None, None, None)
    assert html.startswith('a <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">')
    assert "&#x0003C;" in html
    with pytest.raises(ValueError, match=r"^\\no_such cannot be drawn".replace("_", "")):
        site.formula(r"\nosuch x", displayed=False)


def test_the_numbers_of_the_comparison() -> None:
    row = next(
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "this project |" in line
    )
    assert f"{len(ELEMENTS)} × {len(SCALES)} formats" in row
    assert "over 50" in row
    assert sum(len(family) for family in FAMILIES.values()) > 50
