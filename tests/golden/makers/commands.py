"""Golden of the command line: verbs, their options and help, and the environment variables that are read or given."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.makers.common import ROOT

_VARIABLE = re.compile(
    r"\"((?:DSE|RAY|TUNE|MLFLOW|MKL|ONEDNN|XDG|TRITON|CUDA|OMP|PYTHON|PYTORCH)[A-Z0-9]*(?:_[A-Z0-9_]*)?)\""
)
SWEEP = "name: one\ntasks: [{regression: {training: {steps: 1, batch: 2}}}]\nrecipes: [bf16]\nseeds: 1\n"


def commands() -> dict[str, Any]:
    """Of each verb: its help; of each of its parameters: names, default, help, valid values. The environment."""
    import typer

    from dse.cli import app

    found = dict(_verbs(typer.main.get_command(app), app, "dse"))
    return found | {"environment that is read": _read()} | _one_run()


def _verbs(command: Any, app: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, {"help": _words(command.help), "epilog": command.epilog}
    functions = {info.name or info.callback.__name__: info.callback for info in app.registered_commands}
    groups = {info.name: info.typer_instance for info in app.registered_groups}
    for verb, inner in command.commands.items():
        if verb in groups:
            yield from _verbs(inner, groups[verb], f"{name} {verb}")
            continue
        yield f"{name} {verb}", {"help": _words(inner.help), "epilog": inner.epilog}
        hints = typing.get_type_hints(functions[verb], include_extras=True)
        for one in inner.params:
            if one.name != "help":
                yield f"{name} {verb}: {' '.join([*one.opts, *one.secondary_opts])}", _parameter(one, hints[one.name])


def _parameter(one: Any, hint: Any) -> dict[str, Any]:
    kinds, details = typing.get_args(hint) or (hint,), getattr(hint, "__metadata__", (None,))[0]
    values = [str(value.value) for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum) for value in kind]
    default = one.default.value if isinstance(one.default, Enum) else one.default
    return {
        "default": default if default is None or isinstance(default, bool | int | float) else str(default),
        "environment": getattr(details, "envvar", None),
        "help": _words(getattr(one, "help", None)),
        "metavar": one.metavar,
        "name": one.name,
        "range": [getattr(details, "min", None), getattr(details, "max", None)],
        "repeatable": bool(one.multiple),
        "required": one.required,
        "valid": values,
    }


def _words(text: str | None) -> str | None:
    """Without line breaks, which mean nothing."""
    return " ".join(text.split()) if text else text


def _read() -> list[str]:
    """Variables of the environment that the source names."""
    files = [path for folder in ("dse", "tasks") for path in (ROOT / folder).rglob("*.py")]
    return sorted({name for path in files for name in _VARIABLE.findall(path.read_text(encoding="utf-8"))})


def _one_run() -> dict[str, Any]:
    """A sweep of one trial: what the command prints, and the environment of the command that ``--then`` names."""
    from typer.testing import CliRunner

    from dse.cli import app

    with TemporaryDirectory() as folder:
        file, results, out = Path(folder) / "one.yaml", Path(folder) / "results", Path(folder) / "out"
        file.write_text(SWEEP, encoding="utf-8")
        options = ["--results", str(results), "--executor", "local", "--device", "cpu", "--no-track"]
        ended = CliRunner().invoke(app, ["run", str(file), *options, "--then", f"env > {out}"])
        given = (
            {line for line in out.read_text(encoding="utf-8").splitlines() if line.startswith("DSE_")}
            if out.exists()
            else set()
        )
        old = {f"{name}={value}" for name, value in os.environ.items()}
        said = re.sub(r"in [\d.]+ s", "in N s", ended.stdout.replace(folder, "FOLDER")).splitlines()
        then = sorted(line.replace(folder, "FOLDER") for line in given - old)
    return {
        "a run": {"exit code": ended.exit_code, "stdout": [line for line in said if " left " not in line]},
        "environment that is given": then,
    }
