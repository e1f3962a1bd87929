"""The variants that ``dse bench packs`` compares: ways to train one model, each measured in model-steps per second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from dse.bench import processes
from dse.bench.eager import RECIPE, Alter, Solo, emulated
from dse.bench.measurements import Measurement
from dse.bench.models import SUBJECTS, BenchModel
from dse.bench.peers import PEERS, alter, importable
from dse.bench.rate import pace, peak, tidy
from dse.bench.timed_packs import FALLBACK, MIX, Autocast, Running, Timed, timed, trials

UNIT = "model-steps/s"


@dataclass(frozen=True)
class BenchSettings:
    """``seconds`` of measuring each variant; ``width`` of the packs that are compared, ``widths`` of further ones.

    ``crowds``: numbers of eager processes; ``crowded``: the models they are tried on; ``compared``: the models that the
    peers in ``peers`` (package -> path) are tried on; ``ahead``: processes that compile kernels first.
    """

    device: str = "cpu"
    quick: bool = False
    seconds: float = 1.5
    width: int = 64
    widths: tuple[int, ...] = (1, 16, 256)
    crowds: tuple[int, ...] = (2, 4, 8, 16)
    crowded: tuple[str, ...] = ("gpt128",)
    compared: tuple[str, ...] = ("mlp", "gpt128")
    peers: Mapping[str, str] = field(default_factory=dict)
    ahead: int = 0

    def small(self) -> BenchSettings:
        """The same for a smoke test."""
        return replace(self, quick=True, seconds=0.01, width=min(self.width, 4), widths=(2,), crowds=(1,))

    def subject(self, name: str) -> BenchModel:
        """The model of a name."""
        return SUBJECTS[name](self.quick)


def _mixed(s: BenchSettings, model: str) -> Iterator[Measurement]:
    subject = s.subject(model)
    yield _row(model, f"pack of {s.width}", _pack(s, subject, s.width, MIX), subject.text)


def _fp4(s: BenchSettings, model: str) -> Iterator[Measurement]:
    yield _row(model, f"pack of {s.width}, nvfp4", _pack(s, s.subject(model), s.width, ("nvfp4",)))


def _bf16(s: BenchSettings, model: str) -> Iterator[Measurement]:
    yield _row(model, f"pack of {s.width}, bf16", _pack(s, s.subject(model), s.width, ("bf16",)))


def _autocast(s: BenchSettings, model: str) -> Iterator[Measurement]:
    members = trials(s.subject(model), s.width, ("bf16",))
    yield _row(model, f"pack of {s.width}, autocast", timed(Autocast, members, s.device, s.seconds))


def _widths(s: BenchSettings, model: str) -> Iterator[Measurement]:
    """Narrow packs first, as the widest may not fit."""
    for width in s.widths:
        try:
            yield _row(model, f"pack of {width}", _pack(s, s.subject(model), width, MIX))
        except torch.cuda.OutOfMemoryError:
            yield missing(model, f"pack of {width}", "out of memory")


def _fallback(s: BenchSettings, model: str) -> Iterator[Measurement]:
    width = max(s.width, len(FALLBACK))
    yield _row(model, f"pack of {width}, 1/8 reference", _pack(s, s.subject(model), width, FALLBACK))


def _eager(s: BenchSettings, model: str) -> Iterator[Measurement]:
    yield _solo(s, model, "eager", emulated, f"one process, {RECIPE}, AdamW, no graph")


def _crowd(s: BenchSettings, model: str) -> Iterator[Measurement]:
    rates = processes.rates(model, s.quick, s.device, s.crowds, max(s.seconds, 0.1))
    for count, rate in rates.items():
        yield Measurement(
            model, f"{count} eager processes", rate, UNIT, note=f"{RECIPE}, sharing the device, all together"
        )


def _peers(s: BenchSettings, model: str) -> Iterator[Measurement]:
    for name, peer in PEERS.items():
        try:
            with importable(s.peers, peer.package):
                yield _solo(s, model, name, alter(peer), peer.text)
        except Exception as error:  # noqa: BLE001 - a peer that does not work here is a result
            yield missing(model, name, error)


VARIANTS: dict[str, Callable[[BenchSettings, str], Iterator[Measurement]]] = {
    "pack": _mixed,
    "bf16": _bf16,
    "eager": _eager,
    "processes": _crowd,
    "autocast": _autocast,
    "fp4": _fp4,
    "peers": _peers,
    "widths": _widths,
    "fallback": _fallback,
}
"""In the order of their importance: time may run out."""


def missing(model: str, variant: str, error: BaseException | str) -> Measurement:
    """The row of what could not be measured, with the last line of why."""
    if isinstance(error, BaseException):
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        error = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
    return Measurement(model, variant, None, UNIT, note=f"not measured: {error[:300]}")


def _pack(s: BenchSettings, subject: BenchModel, width: int, recipes: tuple[str, ...]) -> Timed:
    return timed(Running, trials(subject, width, recipes), s.device, s.seconds)


def _solo(s: BenchSettings, model: str, variant: str, change: Alter, note: str) -> Measurement:
    tidy(s.device)
    trial = Solo(s.subject(model), s.device, change)
    rate = pace(trial.step, s.device, s.seconds)
    return Measurement(model, variant, rate, UNIT, note=note, memory=peak(s.device))


def _row(model: str, variant: str, found: Timed, text: str = "") -> Measurement:
    note = f"{text}; {found.note}" if text else found.note
    return Measurement(model, variant, found.rate, UNIT, note=note, memory=found.memory)
