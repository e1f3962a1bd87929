"""Training of packs: ``run_pack`` trains and evaluates trials together and returns a record for each.

Imports torch and the mathematics only, so it runs on a bare GPU machine.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dse.alarms.checker import GemmChecker
from dse.errors import UserError
from dse.pack.starts import ModelWeights
from dse.probes.prober import Prober
from dse.results.changed_code import code_of
from dse.results.record import FAILED, Record
from dse.results.versions import versions
from dse.tasks.base import Task, to_device
from dse.train.context import PLAIN, TrainContext, last_line
from dse.train.halving import RungPlan
from dse.train.hooks import EvaluationHook, Hook, Hooks, Observer, ObserverHook, ProgressHook, RungHook
from dse.train.needed import Needed, needed_weights
from dse.train.pack_run import PackRun
from dse.train.post_run import quantized_outcomes
from dse.train.provenance import device_name, host
from dse.train.resume import CheckpointHook, content_key
from dse.train.saved_weights import write_saved
from dse.train.threads import one_thread
from dse.train.weights import write_weights
from dse.trial import Trial


def run_trial(trial: Trial, context: TrainContext = PLAIN, config: str = "") -> Record:
    """Trains and evaluates one trial, and returns its record; nothing is stored.

    ``context``: device, data folder, checkpoints and the like; ``config``: the trial's name in its record, by default
    that of its recipe. It runs on one torch thread, as a worker's trials do: more give other last bits, and are slower
    for models of this size. Afterwards torch has as many as before.
    """
    with one_thread():
        return run_pack([trial], context, [config])[0]


def run_pack(trials: Sequence[Trial], context: TrainContext = PLAIN, configs: Sequence[str] = ()) -> list[Record]:
    """Trains and evaluates trials of one signature (``dse.pack.grouping``) together; one record each, in their order.

    ``configs``: the trials' names in their sweep, by default those of their recipes.

    - Divergence is a result (``diverged``) and does not affect the other members.
    - An exception of the model or the numerics, or too little memory, splits the pack in halves that start anew, and
      their records say why. In a pack of one it is a result too (``failed``, with its traceback).
    - An error in a hook or in an evaluation after the last step costs no training (``Hooks``, ``PackRun``).
    - Trials that start from others' trained weights, or quantize them, get them from the results folder
      (``dse.train.weights``); what is not there is trained first. A trial has failed where that one has, or diverged.
    - UserError (missing data, say) is raised: it concerns the sweep, not the trial.
    - With halving the worse trials stop at its rungs. A trial that pauses at a rung gets the record of one that has
      stopped there, and leaves a checkpoint.
    - With checkpoints, trials whose newest ones are of the same step train together, the others separately. Raises
      ``Left`` when asked to leave.
    """
    for trial in trials:
        code_of(trial)  # the code that is in memory now: its files may be edited while it trains
    needed = needed_weights(trials, context, run_pack)
    names = [config or trial.recipe.name for config, trial in zip(configs or [""] * len(trials), trials, strict=True)]
    if needed.reasons:
        return _without_start(trials, names, needed, context)
    plan = RungPlan.of(trials, context.options.halving, context.target)
    context = replace(context, target=plan.target)
    if context.checkpoints is None or trials[0].recipe.post is not None:
        return _run_part(trials, names, (), context, needed.weights)
    parts = context.checkpoints.parts([trial.uid for trial in trials], plan.ranks, plan.target_step)
    if any(part.step == plan.target_step and not part.ranked for part in parts):  # a pack is ranked at a rung only once
        context = replace(context, target=replace(plan.target, group=0))
    records: dict[int, Record] = {}
    for part in parts:
        own, own_names = [trials[i] for i in part.places], [names[i] for i in part.places]
        records |= zip(part.places, _run_part(own, own_names, part.paths, context, needed.weights), strict=True)
    return [records[i] for i in range(len(trials))]


def _without_start(
    trials: Sequence[Trial], names: Sequence[str], needed: Needed, context: TrainContext
) -> list[Record]:
    """Records of trials of which some have failed before their first step, because what they start from has."""
    reasons = [needed.reason(trial) for trial in trials]
    ready = [place for place, reason in enumerate(reasons) if not reason]
    trained = run_pack([trials[i] for i in ready], context, [names[i] for i in ready]) if ready else []
    found = dict(zip(ready, trained, strict=True))
    failed = {
        place: _record(trials[place], names[place], {"status": FAILED, "error": reason}, context)
        for place, reason in enumerate(reasons)
        if reason
    }
    if context.on_done:
        context.on_done([*failed.values()])
    return [(found | failed)[place] for place in range(len(trials))]


def _run_part(
    trials: Sequence[Trial],
    names: Sequence[str],
    paths: Sequence[Path],
    context: TrainContext,
    weights: Mapping[str, ModelWeights],
) -> list[Record]:
    """Trains and evaluates trials together, from the checkpoints at ``paths`` if there are any; ``weights``: what they
    need of others, by uid."""
    options, plan = context.options, RungPlan.of(trials, context.options.halving, context.target)
    after = trials[0].recipe.post is not None
    observers: dict[str, Observer] = {"gemm_checks": GemmChecker()} if options.gemm_checks else {}
    observers |= {"probes": Prober(options.probes)} if options.probes else {}
    shared = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "data": ""}
    start, seconds_before, error, outcomes = time.perf_counter(), 0.0, "", list[dict[str, Any]]()
    try:
        data, shared["data"] = load(trials[0].task, options.data_dir, options.device)
        checkpoints = None
        if context.checkpoints and not after:
            key = content_key(trials, context, shared["data"], plan.ranks)
            checkpoints = CheckpointHook(context.checkpoints, paths, key, observers, plan)
        if after:
            outcomes = quantized_outcomes(trials, data, options.device, weights, context.on_step)
        else:
            outcomes = _train(PackRun(trials, data, options.device, weights), context, plan, observers, checkpoints)
        seconds_before = checkpoints.seconds if checkpoints else 0.0
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - a trial's failure is data, kept whole
        error = traceback.format_exc()
    if error:
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(trials) > 1:
            half = len(trials) // 2
            halves, context = (slice(None, half), slice(half, None)), context.split(len(trials), last_line(error))
            return [record for part in halves for record in run_pack(trials[part], context, names[part])]
        outcomes = [{"status": FAILED, "error": error}]
    seconds = round(seconds_before + (time.perf_counter() - start) / len(trials), 6)
    records = [
        _record(trial, name, own | shared | {"seconds": seconds} | _seen(trial, observers), context)
        for trial, name, own in zip(trials, names, outcomes, strict=True)
    ]
    if context.on_done:
        context.on_done(records)
    return records


def _seen(trial: Trial, observers: Mapping[str, Observer]) -> dict[str, list[Any]]:
    """The rows of what looked into a trial's training, by the record's field."""
    return {name: observer.rows.get(trial.uid, []) for name, observer in observers.items()}


def _record(trial: Trial, config: str, fields: dict[str, Any], context: TrainContext) -> Record:
    """``fields``: what training decides, and what the trials of a pack share."""
    return Record(
        uid=trial.uid,
        baseline_uid=trial.baseline().uid,
        task=trial.task.name,
        recipe=trial.recipe.name,
        config=config,
        seed=trial.seed,
        trial=trial.spec,
        device=device_name(context.options.device),
        host=host(),
        versions=versions(),
        code=code_of(trial),
        **(fields | {"pack": fields.get("pack", {}) | context.facts}),
    )


@lru_cache(maxsize=4)
def load(task: Task[Any], data_dir: Path | None, device: str) -> tuple[Any, str]:
    """The task's data on ``device`` and its fingerprint, kept for the next trial of this process."""
    data = task.load(data_dir)
    return to_device(data, device), task.data_fingerprint(data)


def _train(
    run: PackRun,
    context: TrainContext,
    plan: RungPlan,
    observers: Mapping[str, Observer],
    checkpoints: CheckpointHook | None,
) -> list[dict[str, Any]]:
    """The training loop. Per trial, in the given order, the fields of its record that training decides."""
    if checkpoints:
        checkpoints.load(run)
    hooks = Hooks([*_hooks(run, context, plan, observers), *filter(None, [checkpoints])])
    run.compile_kernels()
    if run.steps_done == 0:
        run.evaluate()
    while run.steps_done < plan.stop_at:
        run.update_phases()
        hooks.before_step(run)
        if not run.step():
            break
        hooks.after_step(run)
    hooks.at_end(run)
    if plan.stop_at < run.steps:
        run.pause(plan.rungs[plan.stop_at])
    else:
        run.finish()
        _keep_weights(run, context)
    return run.outcomes


def _keep_weights(run: PackRun, context: TrainContext) -> None:
    """Hands the trained weights on, and writes them where the options say so; where that fails, a record says why."""
    options = context.options
    results = options.results if options.keep_weights or options.save_weights else None
    if not results and not context.keep:
        return
    for trial, parameters in run.trained():
        if context.keep:
            context.keep(trial.uid, parameters)
        try:
            if results and options.keep_weights:
                write_weights(results, trial, parameters)
            if results and options.save_weights:
                write_saved(results, trial, parameters)
        except OSError as error:
            run.facts["weights_missing_because"] = error.strerror or str(error)


def _hooks(run: PackRun, context: TrainContext, plan: RungPlan, observers: Mapping[str, Observer]) -> Iterator[Hook]:
    """The hooks that a run needs, in the order in which they are called; checkpoints come last."""
    every, halving = run.trials[0].training.eval_every, context.options.halving
    if context.on_step:
        yield ProgressHook(context.on_step)
    for observer in observers.values():
        yield ObserverHook(observer)
    if every:
        yield EvaluationHook(every, plan)
    if halving:
        yield RungHook(halving, plan)


__all__ = ["PLAIN", "TrainContext", "load", "run_pack", "run_trial", "versions"]
