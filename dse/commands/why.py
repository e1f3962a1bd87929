"""The command `why`: everything about one trial, from its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dse.alarms.verdicts import alarms
from dse.commands.follow_up import say_damage, say_manifests
from dse.commands.gallery import describe, resolved, short
from dse.errors import OptionError
from dse.numerics.recipe import Recipe
from dse.numerics.registry import build, to_data
from dse.recipes import RECIPES
from dse.results.explain import Neighbor, TrialDetails, differences, find_trials
from dse.results.gaps import gap
from dse.results.outcome import outcome, reason
from dse.results.record import FAILED, OK, Record
from dse.results.store import Store
from dse.run.executors.worker_log import FILE, TrialLogs
from dse.shell import command
from dse.tasks.base import Training
from dse.tasks.own import is_path
from dse.text import duration, plural
from dse.train.processor import described
from dse.train.saved_weights import saved_path
from dse.trial import Trial, make_task

_MOST = 24
"""Neighbors, and lines of a log, that are listed."""


def why(trial: str, results: Path) -> None:
    """Prints all about every trial that ``trial`` names. Raises UserError when there is none."""
    store = Store(results)
    found = find_trials(store, trial)
    say_damage(store)
    say_manifests(results)
    print("\n\n".join("\n".join(_lines(details, results)) for details in found))


def _lines(details: TrialDetails, results: Path) -> Iterator[str]:
    record = details.record
    labels = details.entry.labels if details.entry else {}
    config = details.entry.config if details.entry else record.config if record else ""
    yield _row(
        "trial",
        f"{details.uid}: {labels.get('task') or (record.task if record else '')}, {config}, seed "
        f"{labels.get('seed', record.seed if record else '')}",
    )
    if details.sweep:
        yield _row(
            "sweep", f"{details.sweep.name} ({details.sweep.path})" if details.sweep.path else details.sweep.name
        )
    if record is None:
        yield _row("status", "has not run yet")
    else:
        yield from _result(record, details.baseline)
        yield from _devices(record, details.others)
        yield from _numerics(record, details.baseline)
        yield from _checks(record, details.baseline)
        yield from _after_training(record)
        if (saved := saved_path(results, record.uid)).exists():
            yield _row("weights", f"{saved} (dse.load_model)")
        yield from _neighbors(details)
        yield from _provenance(record)
        yield from _log(record, results)
        if record.error:
            yield _row("error", "")
            yield from (f"  {line}" for line in record.error.rstrip().splitlines())
    if details.sweep and details.sweep.path:
        yield _row("rerun", _command(details, results))


def _result(record: Record, baseline: Record | None) -> Iterator[str]:
    said = reason(record)
    if record.status == OK:
        found = gap(record, baseline)
        lost = f", {100 * found.lost:+.3g} % of the improvement lost" if found and found.lost is not None else ""
        said = f"{record.metric:.6g} at the end{lost}"
    yield _row("status", f"{outcome(record)}: {said}")
    if record.metric_initial is not None:
        yield _row("", f"held-out {record.metric_initial:.6g} before the first step")
    if record.curve:
        step, loss = record.curve[-1]
        yield _row(
            "", f"training loss {_number(record.curve[0][1])} at the first step, {_number(loss)} at step {step:g}"
        )
    if record.metrics:
        yield _row("metrics", ", ".join(f"{name} {_number(value)}" for name, value in record.metrics.items()))
    if record.metrics_bf16:
        said = ", ".join(f"{name} {_number(value)}" for name, value in record.metrics_bf16.items())
        yield _row("", f"{said} with the weights in BF16 arithmetic")


def _devices(record: Record, others: Sequence[Record]) -> Iterator[str]:
    """Where several kinds of device have run the trial: which record this is, and what the others came to."""
    for i, other in enumerate(others):
        said = reason(other) if other.metric is None else f"{other.metric:.6g}"
        yield _row("devices" * (not i), f"this is from {record.device}; on {other.device} {outcome(other)}: {said}")


def _numerics(record: Record, baseline: Record | None) -> Iterator[str]:
    """From the record alone: a task that is code at a path is shown, not imported."""
    spec = record.trial
    yield from _recipe(record)
    own = is_path(spec["task"])
    options = spec["options"] if own else resolved(make_task(spec["task"], spec["options"]))
    yield _row("task", short({spec["task"]: options}) + " (code of its own, not imported)" * own)
    yield _row("training", _settings(record))
    if first := spec.get("start"):
        where = "" if own else f" ({Trial.from_spec({**first, 'seed': spec['seed']}).uid})"
        yield _row("start", short({first["task"]: first["options"]}) + where)
        yield _row("", short(first["training"]))
    base = baseline.trial if baseline else {**spec, "recipe": to_data(RECIPES["bf16"])}
    name = f"{baseline.uid} ({baseline.config}), {outcome(baseline)} {reason(baseline)}" if baseline else "has not run"
    if baseline and baseline.metric is not None:
        name += f"{baseline.metric:.6g}"
    if record.uid == record.baseline_uid:
        yield _row("baseline", "this is one")
        return
    yield _row("baseline", name)
    for path, mine, theirs in differences(record.trial, base):
        yield _row("", f"{path}: {_text(theirs)} there, {_text(mine)} here")


def _recipe(record: Record) -> Iterator[str]:
    """The recipe's points; as its record has them where a part is a plugin's that nobody has named."""
    try:
        lines = list(describe(build(Recipe, record.trial["recipe"], "recipe"), full=True))
    except OptionError as error:  # code is imported for nobody who has not named it
        changed = differences({"recipe": record.trial["recipe"]}, {"recipe": to_data(RECIPES["bf16"])})
        lines = [f"{path}: {_text(mine)}" for path, mine, _ in changed]
        lines.append(_unknown(record, error))
    yield from (_row("recipe" * (not i), line) for i, line in enumerate(lines))


def _settings(record: Record) -> str:
    """The training's settings, with defaults where nothing of them is a plugin's."""
    try:
        return short(resolved(build(Training, record.trial["training"], "training")))
    except OptionError as error:
        return f"{short(record.trial['training'])} ({_unknown(record, error)})"


def _unknown(record: Record, error: OptionError) -> str:
    return f"not known here: {error}; if it is a plugin's, name that: dse why {record.uid} --plugin FILE"


def _checks(record: Record, baseline: Record | None) -> Iterator[str]:
    """Alarms, or how far the checked products were from the exact ones."""
    rows = record.gemm_checks
    found = alarms(rows, baseline.gemm_checks if baseline else ())
    yield from (_row("alarms" * (not i), alarm.line()) for i, alarm in enumerate(found))
    gains = [values["gain"] for *_, values in rows if values.get("gain") is not None]
    if gains and not found:
        spread = f"gains {min(gains):.3g} to {max(gains):.3g}"
        yield _row("alarms", f"none: {plural(len(gains), 'product')} checked, {spread}, as its recipe explains")


def _neighbors(details: TrialDetails) -> Iterator[str]:
    near = details.neighbors
    for i, neighbor in enumerate(near[:_MOST]):
        yield _row("neighbors" * (not i), _neighbor(neighbor, details))
    if len(near) > _MOST:
        yield _row("", f"and {len(near) - _MOST} more")


def _neighbor(neighbor: Neighbor, details: TrialDetails) -> str:
    record = neighbor.record
    text = f"{neighbor.axis} {_text(neighbor.value)} (here {_text(neighbor.own_value)}): {neighbor.entry.uid}, "
    if record is None:
        return text + "has not run"
    if record.metric is None or details.record is None or details.record.metric is None:
        return text + f"{outcome(record)} {_number(record.metric) if record.metric is not None else reason(record)}"
    return text + f"{outcome(record)} {record.metric:.6g} ({record.metric - details.record.metric:+.3g})"


def _after_training(record: Record) -> Iterator[str]:
    """What a post-training method has made of the trained weights."""
    if facts := record.pack.get("post"):
        text = f"{plural(facts['quantized_layers'], 'layer')} quantized, {facts['bits_per_weight']:g} bits per weight"
        rows = (
            f", calibrated on at least {facts['calibration_rows']:,} rows each" if "calibration_rows" in facts else ""
        )
        yield _row("post", text + rows)
        if shares := facts.get("format_shares"):
            own, *others = (f"{100 * share:.3g} %" for share in shares)
            yield _row("", f"{own} of the weights in the recipe's format, {', '.join(others)} in those of post.formats")


def _provenance(record: Record) -> Iterator[str]:
    yield _row("ran", f"{record.started}, {duration(record.seconds)} on {record.host}, {record.device}")
    yield _row(
        "", ", ".join([*(f"{name} {v}" for name, v in record.versions.items()), f"data {record.data or 'unknown'}"])
    )
    pack = dict(record.pack)
    if facts := pack.pop("processor", None):
        yield _row("processor", described(facts))
    if facts := pack.pop("resumed_from", None):
        yield _row("", f"went on from a checkpoint of another: {described(facts)}")
    if pack:
        yield _row("pack", short(pack))


def _log(record: Record, results: Path) -> Iterator[str]:
    """What its worker printed, the last lines of it."""
    if lines := TrialLogs(results).of(record):
        yield _row("log", f"{plural(len(lines), 'line')} in {results / FILE} of its worker while its pack ran:")
        yield from (f"  {line}" for line in lines[-_MOST:])


def _command(details: TrialDetails, results: Path) -> str:
    """The command that runs this trial, or runs it again."""
    assert details.sweep is not None
    retry = ("failed" if details.record.status == FAILED else "all") if details.record else None
    return command("run", details.sweep.file, only=details.uid, retry=retry, results=results, **details.sweep.options)


def _row(head: str, text: str) -> str:
    return f"{head:10}{text}".rstrip()


def _text(value: object) -> str:
    return "nothing" if value is None else short(value)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"
