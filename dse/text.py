"""Words and numbers in messages and reports: durations, plurals, lists in a sentence, and names of files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

_LONGEST = 120  # bytes of a name in a file name: file systems end at 255
_HASH = 6


def duration(seconds: float) -> str:
    """The two largest units, the smaller one left out where it is zero; one digit below a second.

    >>> duration(0.04), duration(45), duration(185), duration(7200), duration(200000)
    ('0.04 s', '45 s', '3 min 5 s', '2 h', '2 d 7 h')
    """
    whole = round(seconds)
    if seconds < 0.95:
        return f"{seconds:.1g} s" if seconds >= 0.001 else "0 s"
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size:,} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def noun(count: int, word: str, words: str = "") -> str:
    """``word`` or its plural ``words`` (``word`` with an s), by the count.

    >>> noun(1, "trial"), noun(2, "trial"), noun(0, "query", "queries")
    ('trial', 'trials', 'queries')
    """
    return word if count == 1 else words or word + "s"


def plural(count: int, word: str, words: str = "") -> str:
    """A count with its noun.

    >>> plural(1, "trial"), plural(12000, "trial")
    ('1 trial', '12,000 trials')
    """
    return f"{count:,} {noun(count, word, words)}"


def listing(items: Sequence[str], last: str = "and") -> str:
    """Items of a sentence.

    >>> listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def slug(name: str) -> str:
    """A name as a file name: letters of any script, digits, '_', '.' and '-'; long ones end in a hash.

    >>> slug("a sweep/α")
    'a_sweep_α'
    """
    text = underscored(unicodedata.normalize("NFC", name)) or "sweep"
    if len(text.encode()) <= _LONGEST:
        return text
    return f"{text.encode()[:_LONGEST].decode(errors='ignore')}-{short_hash(name)}"


def underscored(name: str) -> str:
    """A name with an underscore for everything that is no letter of any script, digit, '_', '.' or '-'."""
    return re.sub(r"[^\w.-]+", "_", name)


def sweep_name(stem: str, ascii_only: bool = False) -> str:
    """The name of a sweep whose file does not give one, from the file's name without its ending.

    >>> sweep_name("_my sweep α"), sweep_name("_my sweep α", ascii_only=True), sweep_name("__")
    ('my-sweep-α', 'my-sweep-', 'sweep')
    """
    other = r"[^A-Za-z0-9._-]+" if ascii_only else r"[^\w.-]+"
    return re.sub(other, "-", stem).lstrip("._-") or "sweep"


def short_hash(text: str) -> str:
    """Six hexadecimal digits that tell names apart; of text that is no UTF-8 too, as file names may be."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_HASH]


__all__ = ["duration", "listing", "noun", "plural", "short_hash", "slug", "sweep_name"]
__all__ += ["underscored"]
