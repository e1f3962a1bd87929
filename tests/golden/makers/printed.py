"""Golden of what commands print about the fixed results, and of the program that carries trials to another machine."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
import warnings
from contextlib import chdir, redirect_stdout, suppress
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tests.golden.makers.common import digest_of
from tests.golden.makers.fixed import RESULTS, SWEEPS

_ABOUT = ("own <recipe> G.rounding=stochastic@0", "4ece227b56c23255", "107b", "4010f501e7f340fc", "f", "mxfp8@0")
"""What `dse why` is asked about: several tasks; one that failed, one that diverged, one that ended; two wrong ones."""
_PLAIN = {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
_AWAY = "dse.run.away"


def printed() -> dict[str, Any]:
    """Command -> its lines."""
    commands: list[list[str]] = [["status"], ["recipes"], ["recipes", "nvfp4"], ["recipes", "--options"]]
    commands += [["cost", "nvfp4"], ["cost", "mxfp4", "--set", "G.rounding=stochastic", "--shape", "64,128,256"]]
    for name in SWEEPS:
        file = f"results/{name}.yaml"
        commands += [["plan", file, "--workers", "2"], ["status", file]]
    commands += [["power", "results/study.yaml", "--gap", "0.1"], ["power", "results/hunt.yaml"]]
    commands += [["why", trial] for trial in _ABOUT]
    with TemporaryDirectory() as folder, chdir(folder):
        copytree(RESULTS, "results")
        found = {"dse " + " ".join(words): _lines(words) for words in commands}
        return found | _away()


def _lines(words: list[str]) -> list[str]:
    from typer.testing import CliRunner

    from dse.cli import app
    from dse.errors import UserError

    ended = CliRunner(env=_PLAIN).invoke(app, words)
    wrong = [f"{type(ended.exception).__name__}: {ended.exception}"] if isinstance(ended.exception, UserError) else []
    return [line.rstrip() for line in ended.output.splitlines()] + wrong


def _away() -> dict[str, Any]:
    """The options of its verbs, and the file that the trials are carried in."""
    options = {verb: sorted(set(re.findall(r"--[a-z-]+", _said(verb, "--help")))) for verb in ("plan", "run")}
    said = _said(
        "plan", *(f"results/{name}.yaml" for name in ("study", "ladder")), "--out", "trials.json", "--results", "none"
    )
    carried = json.loads(Path("trials.json").read_text(encoding="utf-8"))
    jobs = {job["name"]: digest_of([json.dumps(item) for item in job["items"]]) for job in carried.pop("jobs")}
    return {f"{_AWAY}: options": options, f"{_AWAY}: plan": [said.split("\n"), carried, jobs]}


def _said(*words: str) -> str:
    """What ``python -m`` prints, run in this process."""
    out = io.StringIO()
    with patch.object(sys, "argv", [_AWAY, *words]), redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may have been imported before
        with suppress(SystemExit):
            runpy.run_module(_AWAY, run_name="__main__")
    return out.getvalue()
