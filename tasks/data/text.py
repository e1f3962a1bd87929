"""Text for language models: Python's own library (always there), tinyshakespeare, any file or folder of text."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError, nearest
from dse.tasks.data import locate, tokens

TEXTS = ("stdlib", "tinyshakespeare")

PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))  # 96 characters

# Modules that are one .py file in every Python from 3.11 on, long and full of documentation.
# fmt: off
STDLIB = (
    "argparse", "ast", "bdb", "calendar", "cmd", "codecs", "configparser", "contextlib", "copy", "csv",
    "dataclasses", "difflib", "doctest", "enum", "fractions", "ftplib", "functools", "gettext", "heapq", "imaplib",
    "inspect", "ipaddress", "locale", "mailbox", "mimetypes", "ntpath", "optparse", "os", "pdb", "pickle",
    "pickletools", "platform", "plistlib", "posixpath", "pprint", "profile", "pstats", "pyclbr", "pydoc", "random",
    "sched", "selectors", "shelve", "shlex", "shutil", "smtplib", "socket", "socketserver", "statistics",
    "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "trace", "traceback",
    "tracemalloc", "turtle", "typing", "uuid", "warnings", "wave", "weakref", "webbrowser", "zipapp",
)
# fmt: on


@dataclass(frozen=True)
class Text:
    """Token numbers [N] (uint8, or int32 for many) and the alphabet they index, where they are characters."""

    x: Tensor
    test_x: Tensor
    alphabet: str

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self.alphabet)


@dataclass(frozen=True)
class Tokens(Text):
    """Bytes or learned tokens: how many there are, and how many of them the held-out text has per character."""

    vocabulary: int
    per_character: float

    @property
    def size(self) -> int:
        return self.vocabulary


def load_text(source: str, data_dir: Path | None = None, kind: str = "characters", vocabulary: int = 0) -> Text:
    """The text `source`: 'stdlib', 'tinyshakespeare', the path of a text file or a folder of *.txt files, or NAME for
    data_dir/text/NAME.txt.

    The last tenth of each document is held out; a module of the standard library, and a file of a folder, is one
    document. `kind`: characters, bytes (of UTF-8), or bpe, with a `vocabulary` learned from the training part.
    """
    if source == "stdlib":
        documents, alphabet = list(_stdlib()), PRINTABLE
    else:
        path = locate.files(source, data_dir)[0] if source in TEXTS else _given(source, data_dir)
        documents = [_read(file) for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
        alphabet = "".join(sorted(set().union(*documents)))
    if kind == "characters":
        return _encode(documents, alphabet)
    cuts = [(len(document) * 9) // 10 for document in documents]
    train = [document[:cut] for document, cut in zip(documents, cuts, strict=True)]
    test = [document[cut:] for document, cut in zip(documents, cuts, strict=True)]
    encode, size = tokens.coder(kind, vocabulary, train)
    x, test_x = encode(train), encode(test)
    return Tokens(x, test_x, "", size, len(test_x) / max(1, sum(map(len, test))))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable UTF-8 text ({error})") from None


def _stdlib() -> Iterable[str]:
    """Each module's source in printable ASCII. It differs between Python versions: see the data fingerprint."""
    root = Path(sysconfig.get_path("stdlib"))
    for module in STDLIB:
        path = root / f"{module}.py"
        try:
            content = path.read_text(encoding="utf-8").expandtabs(4)
        except OSError:
            raise UserError(f"stdlib: {path} is missing from this Python; name a text file instead") from None
        yield re.sub(r"[^\n -~]", "", content)


def _given(source: str, data_dir: Path | None) -> Path:
    roots = [] if data_dir is None else [data_dir, data_dir / "text"]
    places = [Path(source).expanduser(), *(root / name for root in roots for name in (source, f"{source}.txt"))]
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.glob("*.txt"))):
            return place
    known = {*TEXTS, *(path.stem for root in roots for path in root.glob("*.txt"))}
    looked = ", ".join(map(str, places))
    raise UserError(f"lm: no text {source!r} (looked for {looked}){nearest(source, known)}; 'stdlib' works offline")


def _encode(documents: Iterable[str], alphabet: str) -> Text:
    """Number the documents' characters by their place in the sorted `alphabet`, and hold each one's last tenth out."""
    places = np.frombuffer(alphabet.encode("utf-32-le"), np.uint32)
    kind = torch.uint8 if len(alphabet) <= 256 else torch.int32
    parts = [
        torch.from_numpy(np.searchsorted(places, np.frombuffer(document.encode("utf-32-le"), np.uint32))).to(kind)
        for document in documents
    ]
    cut = [(len(part) * 9) // 10 for part in parts]
    train = torch.cat([part[:end] for part, end in zip(parts, cut, strict=True)])
    test = torch.cat([part[end:] for part, end in zip(parts, cut, strict=True)])
    return Text(train, test, alphabet)
