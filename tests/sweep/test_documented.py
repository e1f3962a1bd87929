"""The YAML blocks of docs/sweeps.md and other pages are sweeps, alone or with what a block leaves out."""

import re
from pathlib import Path
from typing import Any

import pytest

from dse.sweep import load_sweep, schema_json
from dse.sweep.definition.search import METHODS
from dse.sweep.read.include import read_files
from dse.sweep.read.schema import SweepFile, keys_of

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sweeps.md").read_text(encoding="utf-8")
OTHERS = ("post-training.md", "first-sweep.md", "faq.md")
BLOCKS = re.findall(
    r"^```yaml\n(.*?)^```",
    PAGE + "".join((DOCS / page).read_text(encoding="utf-8") for page in OTHERS),
    re.MULTILINE | re.DOTALL,
)
HEAD = {"tasks": "tasks: [lm, image]\n", "recipes": "recipes: [mxfp4, nvfp4]\n"}


@pytest.fixture(scope="module")
def validator() -> Any:
    return pytest.importorskip("jsonschema").Draft7Validator(schema_json())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_a_block(block: str, validator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in BLOCKS:
        if name := re.match(r"# (\w+\.yaml)\n", other):
            Path(name[1]).write_text(other, encoding="utf-8")
    missing = [line for key, line in HEAD.items() if not re.search(rf"^{key}:", block, re.MULTILINE)]
    Path("x.yaml").write_text("".join([*missing, block]), encoding="utf-8")
    assert load_sweep("x.yaml").cells
    for file in read_files(Path("x.yaml")):
        assert [error.message for error in validator.iter_errors(file.source.data)] == []


def test_every_key_and_method_has_its_line() -> None:
    for word in [*keys_of(SweepFile), *METHODS]:
        assert f"| `{word}` |" in PAGE
