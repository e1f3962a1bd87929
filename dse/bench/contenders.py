"""The variants that compare packs with other ways to train the same model, in model-steps per second."""

from __future__ import annotations

from collections.abc import Iterator

from dse.bench import processes
from dse.bench.bench_jobs import UNIT, AheadJob, BenchJob, BenchSettings, MakeJobs, named, pack_job
from dse.bench.eager import RECIPE, Alter, Solo, emulated
from dse.bench.measurements import Measurement
from dse.bench.peers import PEERS, alter, importable
from dse.bench.rate import pace, peak, tidy
from dse.bench.timed_packs import MIX, Autocast

FP4, PLAIN = "compiled nvfp4", "compiled bf16"
"""Rows of the compiled peers: fake quantization in plain torch, and plain BF16."""


def _packs(recipes: tuple[str, ...], text: str = "") -> MakeJobs:
    """Packs of these recipes; ``text`` is what their rows say of it."""

    def variant(s: BenchSettings, model: str) -> Iterator[BenchJob]:
        for activations in s.activations:
            yield pack_job(s, model, named(s.width, text, activations), (s.width, recipes, activations))

    return variant


def _autocast(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    yield pack_job(s, model, f"pack of {s.width}, autocast", (s.width, ("bf16",), "fp32"), Autocast)


def _widths(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    """Narrow packs first, as the widest may not fit."""
    for width in s.widths:
        yield pack_job(s, model, named(width, "", "fp32"), (width, MIX, "fp32"))


def compiled_job(s: BenchSettings, model: str, fp4: bool) -> BenchJob:
    """The job that times a compiled peer, in a process of its own."""
    variant = FP4 if fp4 else PLAIN
    crowd = processes.Crowd(model, s.quick, s.device, (1,), s.seconds, "compiled" if fp4 else "plain")

    def measure() -> list[Measurement]:
        found = processes.rates(crowd)
        note = f"whole step compiled, one CUDA graph, BF16 activations; {found.note}"
        return [Measurement(model, variant, found.rates[1], UNIT, note=note, memory=found.memory)]

    return BenchJob(model, (variant,), measure, AheadJob(model, crowd=crowd))


def _compiled(fp4: bool) -> MakeJobs:
    def variant(s: BenchSettings, model: str) -> Iterator[BenchJob]:
        yield compiled_job(s, model, fp4)

    return variant


def _solo(s: BenchSettings, model: str, variant: str, change: Alter, note: str) -> list[Measurement]:
    tidy(s.device)
    trial = Solo(s.subject(model), s.device, change)
    rate = pace(trial.step, s.device, s.seconds)
    return [Measurement(model, variant, rate, UNIT, note=note, memory=peak(s.device))]


def _eager(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    note = f"one process, {RECIPE}, AdamW, no graph"
    yield BenchJob(model, ("eager",), lambda: _solo(s, model, "eager", emulated, note))


def _crowd(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    yield _together(s, model, s.crowds, "eager", f"{RECIPE}, sharing the device, all together")


def _compiled_crowd(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    yield _together(s, model, s.compiled_crowds, "compiled", f"{FP4}, sharing the device, all together, no MPS")


def _together(s: BenchSettings, model: str, counts: tuple[int, ...], kind: str, note: str) -> BenchJob:
    """The job that times several processes at once."""
    crowd = processes.Crowd(model, s.quick, s.device, counts, max(s.seconds, 0.1), kind)
    names = {count: f"{count} {kind} processes" for count in counts}

    def measure() -> list[Measurement]:
        rates = processes.rates(crowd).rates
        return [Measurement(model, names[count], rate, UNIT, note=note) for count, rate in rates.items()]

    ahead = None if kind == "eager" else AheadJob(model, crowd=crowd)
    return BenchJob(model, tuple(names.values()), measure, ahead)


def _peers(s: BenchSettings, model: str) -> Iterator[BenchJob]:
    for name, peer in PEERS.items():

        def measure(name: str = name) -> list[Measurement]:
            peer = PEERS[name]
            with importable(s.peers, peer.package):
                return _solo(s, model, name, alter(peer), peer.text)

        yield BenchJob(model, (name,), measure)


CONTENDERS: dict[str, MakeJobs] = {
    "pack": _packs(MIX),
    "compiled": _compiled(fp4=True),
    "plain": _compiled(fp4=False),
    "bf16": _packs(("bf16",), "bf16"),
    "eager": _eager,
    "compiled_processes": _compiled_crowd,
    "processes": _crowd,
    "autocast": _autocast,
    "fp4": _packs(("nvfp4",), "nvfp4"),
    "peers": _peers,
    "widths": _widths,
}
"""In the order of their importance: time may run out."""
