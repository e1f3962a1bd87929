"""MkDocs hooks: pages of the documentation site that are made from the registries, the public names and the README,
and formulas as MathML, which browsers draw without a script.

``make docs`` builds the site into ``build/site``.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def home() -> str:
    """The README, with its links from the folder of the documentation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def recipes() -> str:
    """Every recipe of the gallery with its source and its modelled cost."""
    from dse.cost import overhead, relative_time
    from dse.recipes import RECIPES

    head = (
        "# Recipes\n\nThe gallery, as `dse recipes` lists it. Overhead: time of quantization in percent of three FP4 "
        "GEMMs; time: of a linear layer's GEMMs with quantization, BF16 = 1; both modelled for Llama-3 8B on B200.\n\n"
    )
    rows = [
        f"| `{name}` | {recipe.summary} | {overhead(recipe):.1f} % | {relative_time(recipe):.2f} | {recipe.source} |"
        for name, recipe in RECIPES.items()
    ]
    return head + "| recipe | | overhead | time | source |\n| --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"


def options() -> str:
    """Every option of every axis, as ``dse recipes --options`` prints it."""
    from dse.commands import gallery

    out = io.StringIO()
    with redirect_stdout(out):
        gallery.recipes(None, options=True)
    head = "# Options\n\nEvery option of every axis of a sweep, as `dse recipes --options` prints it.\n\n"
    return f"{head}```\n{out.getvalue()}```\n"


def sweep_keys() -> str:
    """The keys of a sweep file, from the models that check it."""
    from dse.sweep.read.schema import EntryBlock, SearchFile, SweepFile, WhenBlock

    parts = ["# Keys of a sweep file\n\nWhat they mean, with examples: [Sweeps](../sweeps.md).\n"]
    titles = {"A sweep": SweepFile, "Beside a task's options": EntryBlock, "An item of `when`": WhenBlock}
    for title, model in {**titles, "`search`": SearchFile}.items():
        rows = [f"| `{f.alias or name}` | {f.description or ''} |" for name, f in model.model_fields.items()]
        parts.append(f"\n## {title}\n\n| key | |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def commands() -> str:
    """The command line, from its own help."""
    import typer.main

    from dse.cli import app

    group: Any = typer.main.get_command(app)
    parts = ["# Command line\n"]
    for name, command in group.commands.items():
        parts.append(f"\n## dse {name}\n\n{command.help or ''}\n\n")
        for option in getattr(command, "params", ()):
            words = ", ".join(f"`{word}`" for word in option.opts) if option.opts else option.name
            parts.append(f"- {words}: {getattr(option, 'help', None) or ''}\n")
        if command.epilog:
            parts.append(f"\n{command.epilog}\n")
    return "".join(parts)


def python() -> str:
    """The names that can be imported from ``dse``; mkdocstrings fills in their docstrings."""
    from dse import PUBLIC

    places = {name: re.sub(r"^dse[.]tasks", "tasks", module) for name, module in PUBLIC.items()}  # as files lie here
    names = "".join(f"\n::: {module}.{name}\n    options: {{heading_level: 2}}\n" for name, module in places.items())
    head = "# Python interface\n\nThe names that can be imported from `dse`; by examples: [Python](../python.md).\n"
    return head + names


def mlflow() -> str:
    """Metrics, parameters and tags of a run in MLflow: the description that its experiment has there."""
    from dse.run.tracking.projection import DESCRIPTION

    head = "# Fields in MLflow\n\nWhat `dse dashboard` shows, as every experiment's description says it.\n\n"
    return head + DESCRIPTION


PAGES: dict[str, Callable[[], str]] = {
    "index.md": home,
    "reference/recipes.md": recipes,
    "reference/options.md": options,
    "reference/sweep-keys.md": sweep_keys,
    "reference/commands.md": commands,
    "reference/python.md": python,
    "reference/mlflow.md": mlflow,
}
"""Path in the site -> the function that writes the page."""


def on_files(files: Any, config: Any) -> Any:
    """MkDocs calls it once all files are known: adds the pages."""
    from mkdocs.structure.files import File

    for path, write in PAGES.items():
        files.append(File.generated(config, path, content=write()))
    return files


_FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs calls it with a page's HTML: what pymdownx.arithmatex has marked becomes MathML."""
    return _FORMULA.sub(lambda found: formula(html.unescape(found[2]), displayed=found[1] == "div"), content)


def formula(latex: str, displayed: bool) -> str:
    """A formula as MathML. Raises ValueError for a command that is not known."""
    from latex2mathml.converter import convert

    found: str = convert(latex.strip(), display="block" if displayed else "inline")
    if unknown := re.search(r"\\[a-zA-Z]+", re.sub(r"<annotation.*?</annotation>", "", found)):
        raise ValueError(f"{unknown[0]} cannot be drawn, in {latex.strip()}")
    return f'<div style="overflow-x: auto">{found}</div>' if displayed else found
