"""Finds trials by the names that people use: the beginning of a uid, or `config@seed`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dse.errors import UserError, nearest
from dse.sweep.language.labels import shorten

_SHORTEST = 4  # digits of a uid
_LONGEST = 200  # characters of advice


def trial_name(config: str, seed: object) -> str:
    """A trial's name for people; trials of different tasks may share it."""
    return f"{config}@{seed}"


def printed_name(config: str, seed: object) -> str:
    """``trial_name`` as messages print it: a long configuration in the short form, which ``find_uids`` knows too."""
    return trial_name(shorten(config), seed)


def find_uids(names: Mapping[str, Collection[str]], words: Collection[str]) -> set[str]:
    """The uids that any of the words names: the beginning of a uid, a ``trial_name``, or a ``printed_name``.

    ``names``: uid -> every ``trial_name`` that it has. A colon behind a word, as a message may have it, does not count.
    Raises UserError for a word that names none.

    >>> sorted(find_uids({"3f0c6a5e": ["nvfp4@0"], "77aa01bc": ["nvfp4@1", "mine@1"]}, ["3f0c", "mine@1"]))
    ['3f0c6a5e', '77aa01bc']
    """
    by_name: dict[str, set[str]] = {}
    for uid, own in names.items():
        for name in own:
            for form in {name, printed_name(*name.rsplit("@", 1))}:
                by_name.setdefault(form, set()).add(uid)
    chosen = set[str]()
    for word in (word.removesuffix(":") for word in words):
        found = by_name.get(word, set())
        if len(word) >= _SHORTEST:
            found = found | {uid for uid in names if uid.startswith(word)}
        if not found:
            near = nearest(word, sorted(by_name))
            raise UserError(f"no trial {word!r}{near if len(near) < _LONGEST else ''}")
        chosen |= found
    return chosen


__all__ = ["find_uids", "printed_name", "trial_name"]
