"""Golden of reports: the CSV files and the pages of the fixed results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tests.golden.makers.common import EXACT, PROCESSOR, digest, processor
from tests.golden.makers.fixed import RESULTS, SWEEPS

_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")
_IMAGE = re.compile(r"data:image/[^\"]+")
_FIGURE = re.compile(r"<img [^>]*>|(?<=<svg role=\"img\" )aria-label=\"[^\"]*\"")
_DRAWN = re.compile(r"<svg role=.*?</svg>", re.DOTALL)
_WRITTEN = re.compile(r"Written [^.]*? by dse [\w.]+")
_MARK = re.compile(r"<meta name=\"sweep\" content=\"[^\"]*\">")


def report(names: tuple[str, ...] = SWEEPS) -> dict[str, Any]:
    """Of each sweep: its CSV files (columns, rows, a digest of all in nine digits, and one of every bit); its page
    without figures, time and place, by sections; its figures by their descriptions and, of one matplotlib, digests.
    """
    found: dict[str, Any] = {PROCESSOR: processor() | {"matplotlib": version("matplotlib")}}
    with TemporaryDirectory() as folder, chdir(folder):
        copytree(RESULTS, "results")
        for name in names:
            found[f"{name}: command"] = _write(f"results/{name}.yaml").split("\n")
            found |= _tables(name) | dict(_page(name))
        found["files"] = sorted(path.as_posix() for path in Path("reports").rglob("*") if path.is_file())
    return found


def _write(file: str) -> str:
    from typer.testing import CliRunner

    from dse.cli import app
    from dse.report.figures.style import RC

    # matplotlib's own font, so that labels lie where they lie on a machine with other fonts
    with patch.dict(RC, {"font.sans-serif": ["DejaVu Sans"]}):
        return CliRunner().invoke(app, ["report", file, "--results", "results", "--out", "reports"]).output


def _tables(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(Path("reports", name).glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        rounded = _NUMBER.sub(lambda match: f"{float(match[0]):.9g}", text)
        columns = text.partition("\n")[0].split(",")
        found[f"{name}: {path.name}"] = {"columns": columns, "lines": text.count("\n"), "sha256": digest(rounded)}
        found[f"{EXACT}{name}: {path.name}"] = digest(text)
    return found


def _page(name: str) -> Iterator[tuple[str, Any]]:
    html = Path("reports", f"{name}.html").read_text(encoding="utf-8")
    yield f"{name}: figures", [_IMAGE.sub("FIGURE", figure) for figure in _FIGURE.findall(html)]
    yield f"{EXACT}{name}: figures", [digest(image) for image in (*_DRAWN.findall(html), *_IMAGE.findall(html))]
    plain = _MARK.sub("MARK", _WRITTEN.sub("WRITTEN", _IMAGE.sub("FIGURE", _DRAWN.sub("DRAWN", html))))
    head, *sections = plain.split("<section ")
    yield f"{name}: page, head", digest(head)
    for section in sections:
        words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", section.partition(">")[2])).strip()
        said = {"begins": words[:160], "characters": len(section), "sha256": digest(section)}
        yield f"{name}: page, {section.partition('>')[0]}", said
