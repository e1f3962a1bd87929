"""Goldens of the sweep language: identities and configurations of cells, the JSON Schema, plans."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.golden.makers.common import ROOT, SWEEPS, digest, digest_of, relative

_LONG = 1000
"""Characters of a part of the schema that is written out."""


def identities() -> dict[str, Any]:
    """Of each sweep file: how many cells it has, the first and last of them, and a digest of all in their order."""
    from dse.sweep import load_sweep

    return {relative(path): digest_of([c.uid for c in load_sweep(path).cells]) for path in SWEEPS}


def configurations() -> dict[str, Any]:
    """Of each sweep file: a digest of the cells' displayed configurations in their order."""
    from dse.sweep import load_sweep

    return {relative(path): digest_of([c.config for c in load_sweep(path).cells]) for path in SWEEPS}


def schema() -> dict[str, Any]:
    """What ``dse schema`` prints: a digest of its text, and its parts, one an entry."""
    from typer.testing import CliRunner

    from dse.cli import app

    text = CliRunner().invoke(app, ["schema"]).stdout
    return {"sha256": digest(text)} | _parts(json.loads(text))


def _parts(content: dict[str, Any]) -> dict[str, Any]:
    """The entries of a schema; those of ``properties`` and of definitions one by one."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if name in ("properties", "definitions") and isinstance(value, dict):
            found |= {f"{name} {key}": _short(part) for key, part in value.items()}
        else:
            found[name] = _short(value)
    return found


def _short(part: Any) -> Any:
    """A part of the schema, or its digest where it is long."""
    text = json.dumps(part)
    return part if len(text) <= _LONG else {"characters": len(text), "sha256": digest(text)}


def plan() -> dict[str, Any]:
    """Of each sweep file: what ``dse plan`` prints for it where nothing has run, without an estimate, line by line.

    Which recipes have kernels is no golden.
    """
    from dse.plan import make_plan, plan_text
    from dse.sweep import load_sweep

    return {
        relative(path): plan_text(replace(make_plan(load_sweep(path), {}), slow={}), 2)
        .replace(f"{ROOT}/", "")
        .split("\n")
        for path in SWEEPS
    }
