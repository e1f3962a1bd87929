"""The pages for readers: paths and dotted names that they mention exist, links lead somewhere, lines are short."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dse.cli import app
from tests.test_layers import SAME_MODULE_NAME

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
WIDTH = 120
UNBREAKABLE: dict[str, str] = {}
"""Lines that are longer: how one begins -> why it cannot be broken."""

EXAMPLE_PATHS = {
    "dse/numerics/techniques/statistics/rms.py": "the technique that add-a-technique.md adds",
    "sweeps/mine.yaml": "the reader's own sweep",
    "sweeps/schema.json": "what dse schema is redirected to",
}
"""Paths in the repository's folders that a reader makes: why."""


def _ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_lines_are_short(page: Path) -> None:
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not any(line.startswith(begin) for begin in UNBREAKABLE):
            assert len(line) <= WIDTH, f"{page.name}:{number} has {len(line)} columns"


_PATH = re.compile(r"(?<![\w./-])((?:dse|tasks|tests|tools|sweeps|docs|examples|constraints)/[\w./*-]*\w)")


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_paths_exist(page: Path) -> None:
    found = set(_PATH.findall(page.read_text(encoding="utf-8")))
    missing = [path for path in found - set(EXAMPLE_PATHS) if not any(ROOT.glob(path))]
    assert not missing


def test_every_example_path_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [path for path in EXAMPLE_PATHS if path not in text] == []


_NAME = re.compile(r"(?<![\w./-])((?:dse|tasks)(?:\.[A-Za-z_]\w*)+)")


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_dotted_names_exist(page: Path) -> None:
    names = {name for name in _NAME.findall(page.read_text(encoding="utf-8")) if not name.endswith((".md", ".py"))}
    assert [name for name in names if not _exists(name)] == []


def _exists(name: str) -> bool:
    """Whether it is a module, or an attribute of one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target, section in _LINK.findall(text):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if section:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
            assert section in anchors, f"{page.name} links to {target}#{section}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = _LINK.findall(page.read_text(encoding="utf-8"))
        ahead += [(page.parent / target).resolve() for target, _ in links if target and "://" not in target]
    assert [page.name for page in PAGES if page not in seen] == []


def test_the_tests_notice() -> None:
    assert _exists("dse.nn.quantize_")
    assert not _exists("dse.nn.quantise_")
    assert not _exists("dse.no_such_module")
    assert _PATH.findall("see `dse/no/such.py`, or dse/trial.py.") == ["dse/no/such.py", "dse/trial.py"]


def test_the_glossary_has_every_name_that_stands_at_two_levels() -> None:
    section = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("## Names at more than one level")[1]
    assert set(SAME_MODULE_NAME) - set(re.findall(r"`(\w+)`", section)) == set()


def _commands(page: Path) -> list[list[str]]:
    """The ``dse`` commands in a page's blocks, without what a shell does with their output."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for block in re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.findall(r"^(?:\w+=\S+ )?(dse \w.*)$", block, re.MULTILINE):
            words = shlex.split(line, comments=True)
            found.append(words[: next((i for i, word in enumerate(words) if word in (">", "|", "&&")), len(words))])
    return found


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_commands_are_of_the_command_line(page: Path) -> None:
    """Verbs, options and the kinds of their values; nothing runs."""
    group: Any = typer.main.get_command(app)
    for _, verb, *words in _commands(page):
        group.commands[verb].make_context(verb, words)


def test_a_command_that_does_not_exist_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\ndse plan my.yaml --no-such-option # why\n```\n", encoding="utf-8")
    with pytest.raises(Exception, match="no-such-option"):
        test_commands_are_of_the_command_line(page)


_SWALLOWED = re.compile(r"\S #{2,4}( [A-Z]|$)|^(?!\|( :?-+:? \|)+$).*\| --- ")
"""A heading, or a table's rule, in the middle of a line."""


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_headings_and_tables_stand_on_lines_of_their_own(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert [line for line in text.splitlines() if _SWALLOWED.search(line)] == []
