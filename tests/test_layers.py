"""Who may import whom: the rooms of ``dse`` stand on floors, and imports point down, those inside of functions too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    "version errors extras shell terminal checkout text stats number_format",
    "former_names files",
    "kernels",
    "numerics",
    "recipes",
    "nn optim",
    "post fused",
    "tasks",
    "trial plugins",
    "cost",
    "pack",
    "probes",
    "alarms",
    "sweep",
    "results",
    "train",
    "plan",
    "run",
    "report",
    "bench commands",
    "cli_options",
    "cli_reference",
    "cli",
    "__main__",
)
"""Rooms from the bottom up; those of one line do not know each other."""

UPWARDS: dict[tuple[str, str], str] = {}
"""Imports that run up, (importer, imported): why."""

BESIDE = {("commands", "bench"): "the commands that time: bench, and cost --measure"}
"""Imports between rooms of one floor: why."""

TASKS_MAY_IMPORT = {
    "dse.errors": "errors are one line for the user",
    "dse.extras": "which extra brings the library for downloads",
    "dse.numerics.random": "random streams of batches",
    "dse.kernels.alignment": "attention's products have the same bits in any pack",
    "dse.kernels.availability": "which tensors kernels take",
    "dse.kernels.tree": "means over a batch have the same bits in any pack",
    "dse.kernels.sqrt": "the correctly rounded square root, the same on every processor",
}
"""All of ``dse`` that the folder ``tasks`` may import, and why."""


class Import(NamedTuple):
    importer: str
    imported: str


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name, ``dse.tasks`` among them."""
    found = {}
    for folder, prefix in ((ROOT / "dse", "dse"), (ROOT / "tasks", "dse.tasks")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((prefix, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> frozenset[Import]:
    """Every import of one module of the package by another, wherever in the file it stands, type-only ones too."""
    found = set()
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: a relative import"
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            for target in targets:
                target = target if target in modules() else target.rpartition(".")[0]
                if target in modules() and target not in (name, "dse"):
                    found.add(Import(name, target))
    return frozenset(found)


def room(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms.split())


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in modules() if module != "dse"}
    assert rooms == set(" ".join(FLOORS).split())


def test_imports_point_down() -> None:
    up = {(a, b) for a, b in imports() if a != "dse" and floor(a) < floor(b)}
    assert up == set(UPWARDS), "imports that run up, or exceptions without an import"


def test_rooms_of_one_floor_do_not_know_each_other() -> None:
    beside = {(room(a), room(b)) for a, b in imports() if a != "dse" and floor(a) == floor(b) and room(a) != room(b)}
    assert beside == set(BESIDE), "imports between neighbors, or exceptions without an import"


def test_tasks_know_nothing_of_numerics() -> None:
    pairs = ((a, b) for a, b in imports() if a.startswith("dse.tasks"))
    known = {b for _, b in pairs if not b.startswith("dse.tasks")}
    assert known == set(TASKS_MAY_IMPORT)


def circles() -> list[list[str]]:
    """Groups of modules that import each other, by Tarjan's algorithm."""
    after: dict[str, list[str]] = {}
    for a, b in imports():
        after.setdefault(a, []).append(b)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        number[v] = low[v] = len(number)
        stack.append(v)
        for w in after.get(v, ()):
            if w not in number:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], number[w])
        if low[v] == number[v]:
            group = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(after):
        if module not in number:
            visit(module)
    return found


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles() == []


MOST_PARAMETERS = 6
COUNTED = ("bench", "commands", "cost", "files", "plan", "report", "results", "run", "sweep", "text", "train")
"""Rooms whose functions take no more parameters than that, without ``self``."""
MORE_PARAMETERS: dict[str, int] = {}
"""Exceptions, as MODULE:FUNCTION: parameters."""


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> int:
    own = node.args
    names = [arg.arg for arg in (*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg) if arg]
    return len(names) - (method and names[:1] in (["self"], ["cls"]))


def functions(node: ast.AST, prefix: str = "", method: bool = False) -> Iterator[tuple[str, int]]:
    """The functions and methods in a module, each by its path in there, and how many parameters it takes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, parameters(child, method)
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.", method=True)
        else:
            yield from functions(child, prefix, method)


def test_functions_take_few_parameters() -> None:
    found = {
        f"{module}:{name}": count
        for module, path in modules().items()
        if module != "dse" and room(module) in COUNTED
        for name, count in functions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(found) > 800
    assert {name: count for name, count in found.items() if count > MOST_PARAMETERS} == MORE_PARAMETERS


HEAVY = ("ray", "mlflow", "polars", "pandas", "seaborn", "matplotlib", "optuna", "pyarrow")


@pytest.mark.parametrize("module", ["dse.train.loop", "dse.results.store", "dse.run.offline"])
def test_a_bare_machine_can_train(module: str) -> None:
    """Nothing on the way to a training imports at its top what a machine with torch alone does not have."""
    seen, ahead = set(), [module]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.parse(modules()[name].read_text(encoding="utf-8")).body:
            targets = (
                [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for target in targets:
                assert target.partition(".")[0] not in HEAVY, f"{name} imports {target}"
                ahead += [target] if target in modules() else []


SAME_MODULE_NAME = {
    "attention": "the numerics, a layer, its packs, a recipe, and the layer of the tasks' models",
    "four_over_six": "the technique, and the recipe that is named after it",
    "grid": "the numbers of a format, and the product of a sweep's axes",
    "halving": "the rule as a sweep file states it, and how a training carries it out",
    "if4": "the technique, and the recipe that is named after it",
    "linear": "a quantized layer, and its packs",
    "matmul": "of quantized operands, and of plain tensors",
    "norm": "a layer of the tasks' models, and its fused form",
    "options": "of a run, and of a task",
    "power": "the command, and the statistics that it prints",
    "provenance": "of a record, and the part of the page that shows it",
    "rungs": "the decisions of successive halving, and the report's view of them",
    "sweep": "a sweep with its cells, and the benchmark that runs one",
    "text": "words for people, and corpora that models learn",
    "tree": "sums in a stated order, and their kernels",
}
"""Base names of modules that exist more than once: why. Not counted: ``base`` of a family, and code of devices."""


def defined(tree: ast.Module) -> Iterator[str]:
    """Public classes of a module wherever they stand, and its type aliases: assigned names in CamelCase."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    for statement in chain(*bodies):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if re.fullmatch("([A-Z][a-z0-9]+)+", name))


def test_no_public_class_has_the_name_of_another() -> None:
    places: dict[str, set[str]] = {}
    for module, path in modules().items():
        for name in defined(ast.parse(path.read_text(encoding="utf-8"))):
            places.setdefault(name, set()).add(module)
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_module_has_the_name_of_another() -> None:
    places: dict[str, set[str]] = {}
    for module, path in modules().items():
        if path.stem not in ("__init__", "base") and path.parent.name != "device":
            places.setdefault(path.stem, set()).add(module)
    twice = {name for name, found in places.items() if len(found) > 1}
    assert twice == set(SAME_MODULE_NAME), "two modules of one name, or exceptions without a pair"
