"""Words and numbers in messages."""

from __future__ import annotations

import doctest

import pytest

from dse import text
from dse.text import duration, listing, noun, plural, slug, sweep_name, underscored


def test_the_examples_are_true() -> None:
    result = doctest.testmod(text)
    assert result.attempted >= 6
    assert result.failed == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.24, "0.2 s"),
        (0.97, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400, "1 d"),
        (3.6e6 + 60, "41 d 16 h"),
    ],
)
def test_durations_have_one_notation(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plurals_and_lists() -> None:
    assert [plural(n, "trial") for n in (0, 1, 1234)] == ["0 trials", "1 trial", "1,234 trials"]
    assert plural(2, "more", "more") == "2 more"
    assert [noun(n, "query", "queries") for n in (1, 2)] == ["query", "queries"]
    assert [listing(items) for items in ([], ["a"], ["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert listing(["a", "b"], last="or") == "a or b"


def test_names_of_files() -> None:
    assert [slug(name) for name in ("", "?")] == ["sweep", "_"]
    assert slug("a/b c") == underscored("a/b c") == "a_b_c"
    assert slug("e\N{COMBINING ACUTE ACCENT}") == "\N{LATIN SMALL LETTER E WITH ACUTE}"
    long = slug("ä" * 200)
    assert len(long.encode()) <= 127
    assert long != slug("ä" * 201)
    assert sweep_name("..my sweep") == "my-sweep"
    assert sweep_name("über", ascii_only=True) == "ber"
