"""Words and numbers in messages."""

from __future__ import annotations

import doctest

import pytest

from dse import text
from dse.text import duration, listing, noun, plural, rough_duration, short_duration, slug, sweep_name, underscored


def test_the_examples_are_true() -> None:
    result = doctest.testmod(text)
    assert result.attempted >= 8
    assert result.failed == 0


@pytest.mark.parametrize(
    ("seconds", "long", "rough", "short"),
    [
        (0.2, "0 s", "1 s", "0s"),
        (59.4, "59 s", "59 s", "59s"),
        (59.6, "1 min 0 s", "1 min", "1m00s"),
        (200, "3 min 20 s", "3 min 20 s", "3m20s"),
        (3600, "1 h 0 min", "1 h", "1h00m"),
        (7500, "2 h 5 min", "2 h 5 min", "2h05m"),
        (86400, "24 h 0 min", "1 d", "24h00m"),
        (3.6e6 + 60, "1,000 h 1 min", "41 d 16 h", "1000h01m"),
    ],
)
def test_durations(seconds: float, long: str, rough: str, short: str) -> None:
    assert (duration(seconds), rough_duration(seconds), short_duration(seconds)) == (long, rough, short)


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
