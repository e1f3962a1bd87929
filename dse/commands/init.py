"""The command `init`: writes a commented sweep to begin from, and skeletons of a task and a technique."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from dse.errors import UserError
from dse.files import replacing
from dse.shell import STARTER, command

_OPTIONAL = re.compile(r"^#(task|technique) (.*)$")
"""Lines of the sweep that only one of the skeletons needs."""


def init(folder: Path, task: bool, technique: bool) -> None:
    """Writes the files into ``folder``, which is made where it is missing, and prints what to do next.

    A skeleton that is asked for in a folder with a sweep leaves that as it is, and prints the lines that it needs.
    Raises UserError, and writes nothing, where another of the files is there already.
    """
    wanted = [name for name, asked in (("task", task), ("technique", technique)) if asked]
    texts = {f"my_{name}.py": _starter(f"my_{name}.py.txt") for name in wanted}
    kept = bool(wanted) and (folder / STARTER).exists()
    texts = texts if kept else {STARTER: "".join(_lines(wanted))} | texts
    paths = {folder / name: text for name, text in texts.items()}
    if there := [path for path in paths if path.exists()]:
        raise UserError(f"{there[0]} exists already, and is left as it is; name another folder: dse init FOLDER")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            with replacing(path, durable=False) as draft:
                draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    print(f"wrote {', '.join(map(str, paths))}")
    if kept:
        print(f"{folder / STARTER} is left as it is; lines for it, under plugins, tasks and grid:")
        print("".join(f"  {line}\n" for line in _skeleton_lines(wanted)), end="")
        return
    for verb in ("plan", "run", "report"):
        print(f"  {command(verb, folder / STARTER)}")


def _lines(wanted: Sequence[str]) -> Iterator[str]:
    """The lines of the sweep, those for a skeleton only where it is wanted."""
    for line in _starter(STARTER).splitlines():
        found = _OPTIONAL.match(line)
        if found is None:
            yield f"{line}\n"
        elif found[1] in wanted:
            yield f"{found[2].rstrip()}\n"


def _skeleton_lines(wanted: Sequence[str]) -> Iterator[str]:
    """The lines of the sweep that the skeletons need, without comments."""
    for line in _starter(STARTER).splitlines():
        found = _OPTIONAL.match(line)
        if found and found[1] in wanted and (text := found[2].partition("#")[0].strip()):
            yield text


def _starter(name: str) -> str:
    return (files("dse.commands") / "starters" / name).read_text(encoding="utf-8")
