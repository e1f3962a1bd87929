"""Every mistake gets one line: the file, the line in it, what is wrong and the nearest valid word."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dse.errors import UserError
from dse.sweep import load_sweep

HEAD = "tasks: [lm]\nrecipes: [mxfp4]\n"


def mistakes() -> dict[str, tuple[str, str]]:
    """mistakes.txt: name -> (file, beginning of the refusal)."""
    text = Path(__file__).with_name("mistakes.txt").read_text(encoding="utf-8")
    found = {}
    for case in text.split("\n== ")[1:]:
        name, _, rest = case.partition("\n")
        file, _, refusal = rest.partition("\n-> ")
        assert name not in found
        found[name] = (file + "\n", refusal.strip())
    return found


INVISIBLE = {
    "empty": ("", "x.yaml: the file is empty; a sweep needs at least tasks and recipes"),
    "tab": ("tasks:\n\t- lm\n", "x.yaml:2: not valid YAML: found character '\\t' that cannot start any token; indent"),
    "control character": (HEAD + "name: a\x01b\n", "x.yaml:3: not valid YAML: a control character"),
    "deep": ("tasks: " + "{a: " * 5000, "x.yaml:1: nested too deeply"),
}
MISTAKES = {**INVISIBLE, **mistakes()}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(refusal: Callable[[str], str], text: str, expected: str) -> None:
    assert refusal(text)[: len(expected)] == expected


def test_files_that_cannot_be_read(write: Callable[[str], Path]) -> None:
    write("tasks: [lm]\n")
    Path("latin.yaml").write_bytes(b"tasks:\n- \xff\n")
    Path("large.yaml").write_text("#" * 250_001, encoding="utf-8")
    for name, expected in {
        "y.yaml": "y.yaml: no such file; did you mean 'x.yaml'?",
        "none/x.yaml": "none/x.yaml: no such file",
        "latin1.yaml": "latin1.yaml: no such file; did you mean 'latin.yaml'?",
        ".": ".: cannot be read: Is a directory",
        "a\0b": "a\0b: cannot be read: embedded null byte",
        "latin.yaml": "latin.yaml:2: not UTF-8 text",
        "large.yaml": "large.yaml: larger than 250,000 bytes, so not a sweep",
        "/dev/zero": "/dev/zero: larger than",
    }.items():
        with pytest.raises(UserError) as caught:
            load_sweep(Path(name))
        assert str(caught.value).startswith(expected)
    with pytest.raises(UserError, match=r"^nofile.yaml: no such file$"):  # x.yaml ends like it, and is not near
        load_sweep(Path("nofile.yaml"))


def test_repeated_aliases_do_not_explode(refusal: Callable[[str], str]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "more than 50,000 values" in refusal("\n".join(lines))
