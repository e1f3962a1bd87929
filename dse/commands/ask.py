"""The commands `ask` and `compare`: one sentence about a sweep; what differs between two configurations or sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dse.commands.follow_up import say_damage
from dse.commands.messages import say
from dse.errors import CommandFailed, UserError
from dse.number_format import SPACE
from dse.results.manifest import read_manifests
from dse.results.store import Store
from dse.run.search import with_asked_cells
from dse.shell import command

if TYPE_CHECKING:
    from dse.report.questions import Answer, Study

_SHOWN = 8
"""Trials that are listed."""


def ask(file: Path, question: str, results: Path) -> None:
    """Prints the answer and the trials behind it. Raises UserError for a question of no known form."""
    from dse.report.questions import answer

    _print(answer(_study(file, results), question), results)


def compare(a: str, b: str, results: Path, file: Path | None = None) -> None:
    """Two sweep files, or two configurations of ``file``, by default of the sweep in ``results`` that has both.

    Raises UserError where that is unclear.
    """
    from dse.report.questions import compare_configs, compare_studies

    if all(Path(name).is_file() for name in (a, b)):
        studies = [_study(Path(name), results) for name in (a, b)]
        print(*(line.replace(SPACE, " ") for line in compare_studies(*studies)), sep="\n")
        return
    _print(compare_configs(_study(file or _sweep_of(a, b, results), results), f"{a} or {b}", a, b), results)


def _study(file: Path, results: Path) -> Study:
    from dse.report.questions import Study
    from dse.sweep import load_sweep

    sweep = with_asked_cells(load_sweep(file, say), results)
    store = Store(results)
    records = store.on_each_device({cell.uid for cell in sweep.cells}, without=("probes", "samples"))
    say_damage(store)
    if not records:
        first = command("run", file, results=results)
        raise CommandFailed(f"{sweep.name} has no results in {results} yet; run it first: {first}")
    return Study.of(sweep, records)


def _sweep_of(a: str, b: str, results: Path) -> Path:
    """The file of the sweep in the results folder that has both configurations, or both recipes."""
    manifests = read_manifests(results)
    known = [
        {name for e in manifest.entries for name in (e.config, *e.also, str(e.labels["recipe"]))}
        for manifest in manifests
    ]
    found = [Path(manifest.file) for manifest, own in zip(manifests, known, strict=True) if {a, b} <= own]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} sweeps in {results} have both" if found else f"no sweep in {results} has both"
    raise UserError(f"{why} {a!r} and {b!r}; name its file: {command('compare', a, b, sweep='FILE', results=results)}")


def _print(found: Answer, results: Path) -> None:
    print(found.sentence.replace(SPACE, " "))
    for uid in found.trials[:_SHOWN]:
        print(f"  {command('why', uid, results=results)}")
    if len(found.trials) > _SHOWN:
        print(f"  and {len(found.trials) - _SHOWN} more trials")


__all__ = ["ask", "compare"]
