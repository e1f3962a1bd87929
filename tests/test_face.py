"""The public names of ``dse``: each resolves, is documented and typed, and is imported on first use only."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dse

ROOT = Path(__file__).parents[1]
LIGHT = {"dse", "dse.checkout", "dse.former_names", "dse.version"}


def test_importing_the_package_imports_nothing_else() -> None:
    """Neither a module of its own nor one of another distribution, but for what finds modules."""
    code = "import sys; before = {*sys.modules}; import dse; print(*sorted({*sys.modules} - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    new = set(done.stdout.split())
    assert {name for name in new if name.partition(".")[0] == "dse"} == LIGHT
    others = {name.partition(".")[0] for name in new} - {"dse"}
    assert others <= sys.stdlib_module_names, "import dse loads another distribution"


@pytest.mark.parametrize("name", dse.PUBLIC)
def test_a_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(dse, name)
    assert value is getattr(import_module(dse.PUBLIC[name]), name)
    assert getattr(dse, name) is value
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == dse.PUBLIC[name], "the module named is where it is defined"
        text = (value.__doc__ or "").split("\n\n")[0]
        assert "." in text, "no first sentence"
        assert not text.startswith(f"{name}("), "the signature that a dataclass makes for itself"
    else:
        assert isinstance(value, dict)
        assert import_module(dse.PUBLIC[name]).__doc__


def test_public_names_are_listed() -> None:
    assert {*dse.PUBLIC, "__version__"} <= set(dir(dse))
    assert set(dse.__all__) == set(dse.PUBLIC)


def test_an_unknown_name_is_an_attribute_error_with_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match=r"module 'dse' has no attribute 'Recip'; did you mean 'Recipe'\?"):
        dse.Recip  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="Recip"):
        from dse import Recip  # type: ignore[attr-defined]  # noqa: F401


def test_a_former_module_does_not_hide_the_function_of_its_name() -> None:
    former = import_module("dse.coverage")
    assert former is import_module("dse.nn.coverage")
    assert dse.coverage is former.coverage


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    (block,) = (
        node
        for node in _tree(ROOT / "dse" / "__init__.py").body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert all(alias.asname == alias.name for alias in node.names), "not exported to type checkers"
        seen |= {alias.name: node.module for alias in node.names}
    assert seen == dse.PUBLIC


def test_no_module_of_the_package_imports_through_the_public_names() -> None:
    """Such an import would run up, past the test of the floors."""
    for folder in (ROOT / "dse", ROOT / "tasks"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.ImportFrom) and node.module == "dse":
                    assert not {alias.name for alias in node.names} & {*dse.PUBLIC, "*"}, path
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "dse":
                    assert node.attr not in dse.PUBLIC, path
