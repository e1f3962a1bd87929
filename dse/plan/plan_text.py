"""A plan as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dse.numerics.registry import to_data
from dse.pack.slowdown import MEASURED
from dse.plan.plan import Count, Plan
from dse.sweep.language.labels import format_call, shorten, text_of
from dse.text import plural


def plan_text(plan: Plan, workers: int = 1, most: int = 12) -> str:
    """The plan for a terminal, without a last newline; at most ``most`` lines per axis and of reasons."""
    return "\n".join(_lines(plan, workers, most))


def _lines(plan: Plan, workers: int, most: int) -> Iterator[str]:
    count, baselines = plan.count, plan.baselines
    yield f"{plan.sweep.name} ({plan.sweep.path})"
    yield f"  {count.total} trials, {baselines.total} of them baselines: {count.done} done, {count.todo} to run"
    if plan.done:
        yield "  done: " + ", ".join(f"{number} {status}" for status, number in sorted(plan.done.items()))
    yield f"  time: {plan.duration(workers)}"
    if plan.first:
        yield f"  first: {plural(len(plan.first), 'trial')} that others start from, not in the time above"
        groups = Counter(
            (format_call(t.task.name, to_data(t.task)), t.training.steps, t.recipe.name) for t in plan.first
        )
        for (task, steps, recipe), number in list(groups.items())[:most]:
            yield f"    {task}, {steps} steps, {recipe}: {plural(number, 'seed')}"
        if len(groups) > most:
            yield f"    ... and {len(groups) - most} more"
    for line in plan.moments[:most]:
        yield f"  moments: {line} (emulated: the buffers here are FP32)"
    if search := _search(plan):
        yield f"  search: {search}"
    rows = [(axis, shorten(text_of(label))) for axis, labels in plan.by_axis.items() for label in labels]
    wide, long = max(len("axis"), *(len(row[0]) for row in rows)), max(len("value"), *(len(row[1]) for row in rows))
    yield ""
    yield f"  {'axis':{wide}}  {'value':{long}}  {'trials':>7} {'done':>7} {'to run':>7}"
    for axis, labels in plan.by_axis.items():
        name = axis
        for label, c in list(labels.items())[:most]:
            yield f"  {name:{wide}}  {shorten(text_of(label)):{long}}  {_numbers(c)}"
            name = ""
        if len(labels) > most:
            yield f"  {'':{wide}}  ... and {len(labels) - most} more values"
    if plan.merged:
        yield f"\n  {plan.merged} more cells are the same trial as another one, and run once"
    if plan.excluded:
        yield f"\n  {sum(plan.excluded.values())} cells left out:"
        for reason, number in list(plan.excluded.items())[:most]:
            yield f"  {number:7}  {reason}"
        if len(plan.excluded) > most:
            yield f"           ... and {len(plan.excluded) - most} more reasons"
    if plan.slow:
        yield f"\n  on a GPU plain torch computes a part of {plural(sum(plan.slow.values()), 'trial')}"
        yield f"  (times against kernels alone: {MEASURED}):"
        for what, number in list(plan.slow.items())[:most]:
            yield f"  {number:7}  {what}"
        if len(plan.slow) > most:
            yield f"           ... and {len(plan.slow) - most} more"


def _search(plan: Plan) -> str:
    search, tasks = plan.sweep.search, len(plan.sweep.space.tasks) if plan.sweep.space else 1
    if search.trials is None:
        return ""
    many = f"{search.method}, {search.trials} configurations" + (f" on each of {tasks} tasks" if tasks > 1 else "")
    return many + (f", chosen in batches of {search.batch} as results come" if search.needs_results else "")


def _numbers(c: Count) -> str:
    return f"{c.total:7} {c.done:7} {c.todo:7}"
