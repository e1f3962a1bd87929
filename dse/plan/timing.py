"""Times of completed trials on one kind of device, as estimates for trials of the same kind.

What decides a trial's time is its task with its options, the training settings that cost time, and its recipe. Where no
trial of the recipe has run, others stand in for it: quantized ones for a quantized one, baselines for a baseline.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, Protocol

from dse.numerics.registry import to_data
from dse.recipes.bf16 import BF16
from dse.results.record import OK

MEASURED, SIMILAR = "measured", "similar"
"""The same trial with any seed, learning rate and the like; the same task and training with other recipes."""
_COSTLY = ("steps", "batch", "eval_every", "optimizer", "loss_scaling", "decayed", "activations")
"""Training settings that cost time; a learning rate costs none."""
_PLAIN = json.dumps(to_data(BF16), sort_keys=True)


class TimedRecord(Protocol):
    """What history must tell: `dse.results.record.Record` does."""

    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def trial(self) -> dict[str, Any]: ...


class TimingKey(NamedTuple):
    """What decides a trial's time, as text."""

    workload: str
    recipe: str

    @property
    def kind(self) -> tuple[str, bool]:
        """The workload, and whether anything is quantized."""
        return self.workload, self.recipe == _PLAIN


@dataclass(frozen=True)
class TypicalTime:
    """The median of ``trials`` completed trials, and which they are: MEASURED or SIMILAR."""

    seconds: float
    source: str
    trials: int


class TrialTimes:
    """Times of completed trials, by what decides them. ``device``: kind (cpu, gpu) of the trials that count; None: of
    the first one that is added."""

    def __init__(self, device: str | None = None) -> None:
        self.device = device
        self._by_key: dict[TimingKey, list[float]] = defaultdict(list)
        self._by_kind: dict[tuple[str, bool], list[float]] = defaultdict(list)
        self._by_workload: dict[str, list[float]] = defaultdict(list)
        self._known: dict[TimingKey, TypicalTime | None] = {}
        self.trials = 0

    def add(self, record: TimedRecord, key: TimingKey | None = None) -> bool:
        """Whether a result counts: diverged, stopped and failed trials took less, or more, than a whole one."""
        if record.status != OK or not record.seconds > 0:
            return False
        device = device_kind(getattr(record, "device", ""))
        self.device = self.device or device
        if device and self.device and device != self.device:
            return False
        key = key or key_of(record.trial)
        for group in (self._by_key[key], self._by_kind[key.kind], self._by_workload[key.workload]):
            group.append(record.seconds)
        self._known.clear()
        self.trials += 1
        return True

    def of(self, key: TimingKey) -> TypicalTime | None:
        """None where nothing like it has been completed."""
        if key not in self._known:
            groups = (
                (self._by_key.get(key), MEASURED),
                (self._by_kind.get(key.kind), SIMILAR),
                (self._by_workload.get(key.workload), SIMILAR),
            )
            found = ((seconds, source) for seconds, source in groups if seconds)
            self._known[key] = next((TypicalTime(median(own), source, len(own)) for own, source in found), None)
        return self._known[key]


class JsonCache:
    """Parts of trial specs as canonical JSON. Cells of a sweep share these parts, so each is serialized once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def text(self, part: Any) -> str:
        """The JSON of a part."""
        known = self._known.get(id(part))
        if known is None:
            # the part is kept as well: its id is not used again as long as it exists
            known = self._known[id(part)] = part, json.dumps(part, sort_keys=True)
        return known[1]


class TimingKeys:
    """Makes the keys of a sweep's trials."""

    def __init__(self) -> None:
        self._json = JsonCache()

    def of(self, spec: Mapping[str, Any]) -> TimingKey:
        """The key of a trial, by its spec."""
        training = {name: spec["training"][name] for name in _COSTLY if name in spec["training"]}
        parts = [self._json.text(spec["options"]), json.dumps(training, sort_keys=True)]
        parts += ["after training"] * ("post" in spec["recipe"])  # nothing is trained
        return TimingKey("\n".join((str(spec["task"]), *parts)), self._json.text(spec["recipe"]))


def key_of(spec: Mapping[str, Any]) -> TimingKey:
    """The key of one trial."""
    return TimingKeys().of({"options": {}, "recipe": {}, "training": {}, "task": "", **spec})


def device_kind(name: str) -> str:
    """cpu or gpu, of a device as records name it; '' for none."""
    return "" if not name else "cpu" if name.startswith("cpu") else "gpu"


def newest_device(records: Iterable[Any]) -> str | None:
    """The kind of the device on which the last completed trial ran; None without any."""
    last = max((r for r in records if r.status == OK and r.device), key=lambda r: str(r.started), default=None)
    return device_kind(last.device) if last else None
