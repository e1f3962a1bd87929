"""Log lines of an offline run: one for each pack, one for each job, and one of JSON for each unfinished trial."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dse.results.record import OK, Record
from dse.train.checkpoint import FOLDER


def pack_line(records: Sequence[Record], seconds: float) -> str:
    """How many trials, how long, how fast, and how they were computed."""
    facts, steps = records[0].pack, int(records[0].trial["training"]["steps"])
    states = ", ".join(f"{n} {status}" for status, n in Counter(r.status for r in records).items())
    rate = len(records) * steps / max(seconds, 1e-9)
    how = f"width {facts.get('width')}, kernels {facts.get('kernels')}, graph {facts.get('graph')}"
    return f"{states} in {seconds:.1f} s, {rate:,.0f} model-steps/s ({how})"


def job_line(records: Sequence[Record]) -> str:
    """The mean metric of every baseline, and each configuration's mean gap to that of its seed, the smallest first."""
    known = {r.uid: r.metric for r in records if r.status == OK and r.metric is not None}
    gaps: dict[str, list[float]] = {}
    bases: list[float] = []
    for record in records:
        own, base = known.get(record.uid), known.get(record.baseline_uid)
        if record.uid == record.baseline_uid:
            bases += [] if own is None else [own]
        elif base is not None:
            gaps.setdefault(record.config, []).append(math.inf if own is None else own - base)
    means = sorted((math.fsum(values) / len(values), config) for config, values in gaps.items())
    head = f"baseline {math.fsum(bases) / len(bases):.4f} (n = {len(bases)})" if bases else "no baseline"
    return ", ".join([head, *(f"{config} {mean:+.4f}" for mean, config in means)])


def unfinished_trials(results: Path) -> Iterator[str]:
    """For every trial in a checkpoint of a folder, a line of JSON: uid, steps trained, held-out metrics so far."""
    import torch

    for folder in sorted((results / FOLDER).glob("*/")):
        for path in sorted(folder.glob("step-*.pt"), key=lambda p: int(p.stem.removeprefix("step-")))[-1:]:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)["course"]
            except Exception as error:  # noqa: BLE001 - damage can raise anything
                print(f"{path} cannot be read ({type(error).__name__}): its trials start anew", file=sys.stderr)
                continue
            for uid, history in zip(state["members"], state["histories"], strict=True):
                yield json.dumps({"uid": uid, "step": state["step"], "evals": history["evals"]})


__all__ = ["job_line", "pack_line", "unfinished_trials"]
