"""Jobs of the pack benchmark: what is measured, with which settings, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dse.bench.measurements import Measurement
from dse.bench.models import SUBJECTS, BenchModel
from dse.bench.processes import Crowd
from dse.bench.timed_packs import Running, Timed, timed, trials
from dse.tasks.base import ACTIVATIONS

UNIT = "model-steps/s"


@dataclass(frozen=True)
class BenchSettings:
    """``seconds`` of measuring each variant; ``width`` of the packs that are compared, ``widths`` of further ones.

    ``crowds``: numbers of eager processes, ``compiled_crowds``: of compiled ones; ``crowded``: the models they are
    tried on; ``compared``: the models that the peers in ``peers`` (package -> path) are tried on; ``ahead``: processes
    that compile kernels first; ``activations``: formats of packs' activations; ``slowest``: the recipe that ``growth``
    measures as the slowest of the gallery.
    """

    device: str = "cpu"
    quick: bool = False
    seconds: float = 1.5
    width: int = 64
    widths: tuple[int, ...] = (1, 16, 256)
    crowds: tuple[int, ...] = (2, 4, 8, 16)
    compiled_crowds: tuple[int, ...] = (2, 4, 8)
    crowded: tuple[str, ...] = ("gpt128",)
    compared: tuple[str, ...] = ("mlp", "gpt128")
    peers: Mapping[str, str] = field(default_factory=dict)
    ahead: int = 0
    activations: tuple[str, ...] = ACTIVATIONS
    slowest: str = "quartet"

    def small(self) -> BenchSettings:
        """The same for a smoke test."""
        few = {"widths": (2,), "crowds": (1,), "compiled_crowds": (1,)}
        return replace(self, quick=True, seconds=0.01, width=min(self.width, 4), **few)  # type: ignore[arg-type]

    def subject(self, name: str) -> BenchModel:
        """The model of a name."""
        return SUBJECTS[name](self.quick)


@dataclass(frozen=True)
class AheadJob:
    """What a job compiles, so that other processes can do so first: a pack of these recipes, or a ``crowd``.

    Which kernels a pack needs depends on its ``width`` too.
    """

    model: str
    recipes: tuple[str, ...] = ()
    activations: str = "fp32"
    width: int = 0
    crowd: Crowd | None = None


@dataclass(frozen=True)
class BenchJob:
    """Something to measure: ``figure`` and ``variants`` of its rows, and a function that measures and returns them."""

    figure: str
    variants: tuple[str, ...]
    measure: Callable[[], list[Measurement]]
    ahead: AheadJob | None = None


MakeJobs = Callable[[BenchSettings, str], Iterator[BenchJob]]


def named(width: int, text: str, activations: str) -> str:
    """What a row calls a pack."""
    parts = [f"pack of {width}", text, "" if activations == "fp32" else f"{activations} activations"]
    return ", ".join(filter(None, parts))


def pack_job(
    s: BenchSettings, model: str, variant: str, pack: tuple[int, tuple[str, ...], str], kind: type[Running] = Running
) -> BenchJob:
    """The job that times a pack: (width, recipes, activations)."""
    width, recipes, activations = pack

    def measure() -> list[Measurement]:
        subject = replace(s.subject(model), activations=activations)
        found = timed(kind, trials(subject, width, recipes), s.device, s.seconds)
        return [row(model, variant, found, subject.text)]

    return BenchJob(model, (variant,), measure, AheadJob(model, recipes, activations, width))


def missing(model: str, variant: str, error: BaseException | str) -> Measurement:
    """The row of what could not be measured, with the last line of why."""
    if isinstance(error, BaseException):
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        error = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
    return Measurement(model, variant, None, UNIT, note=f"not measured: {error[:300]}")


def row(model: str, variant: str, found: Timed, text: str = "") -> Measurement:
    """The row of a pack."""
    note = f"{text}; {found.note}" if text else found.note
    return Measurement(model, variant, found.rate, UNIT, note=note, memory=found.memory)
