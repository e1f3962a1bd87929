"""Finds trials by the names that people use: the beginning of a uid, or `config@seed`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dse.errors import UserError, nearest

_SHORTEST = 4  # digits of a uid
_LONGEST = 200  # characters of advice


def trial_name(config: str, seed: object) -> str:
    """A trial's name for people; trials of different tasks may share it."""
    return f"{config}@{seed}"


def find_uids(names: Mapping[str, str], words: Collection[str]) -> set[str]:
    """The uids that any of the words names; ``names``: uid -> ``trial_name``.

    Raises UserError for a word that names none.

    >>> sorted(find_uids({"3f0c6a5e": "nvfp4@0", "77aa01bc": "nvfp4@1"}, ["3f0c", "nvfp4@1"]))
    ['3f0c6a5e', '77aa01bc']
    """
    chosen = set[str]()
    for word in words:
        prefix = word if len(word) >= _SHORTEST else None
        found = {uid for uid, name in names.items() if name == word or (prefix and uid.startswith(prefix))}
        if not found:
            near = nearest(word, sorted({*names.values()}))
            raise UserError(f"no trial {word!r}{near if len(near) < _LONGEST else ''}")
        chosen |= found
    return chosen


__all__ = ["find_uids", "trial_name"]
