"""The command `cost` with a model and hardware: time of a training step, its parts, and the model against measurements.

Without any of its options the command shows operations (``dse.commands.gallery.cost``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dse.commands.gallery import get, set_options
from dse.cost.cost_places import USUAL
from dse.errors import UserError

if TYPE_CHECKING:
    from dse.cost.models import Deployed
    from dse.cost.roofline import Interval, LayerTime, Machine, StepTime
    from dse.numerics.recipe import Recipe

    TimedParts = StepTime | LayerTime

_BAR = 40


@dataclass(frozen=True)
class StepOptions:
    """What times are for: recipes by name, model and hardware by name or file, and changes to them."""

    recipes: tuple[str, ...]
    settings: tuple[str, ...] = ()
    model: str | None = None
    hardware: str | None = None
    tokens: int | None = None
    tensor_parallel: int | None = None

    def situation(self) -> tuple[Deployed, Machine]:
        """Raises UserError for unknown names, wrong files, and layers that do not split."""
        from dse.cost.models import deployed
        from dse.cost.models.model import Deployed
        from dse.cost.roofline import machine

        model = deployed(self.model or USUAL.model)
        changed = {"tokens": self.tokens, "tensor_parallel": self.tensor_parallel}
        changed = {name: value for name, value in changed.items() if value is not None}
        if changed:
            from pydantic import ValidationError

            try:
                model = Deployed.model_validate(model.model_dump() | changed)
            except ValidationError as error:
                raise UserError(f"{model.name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
        return model, machine(self.hardware or USUAL.hardware)


def steps(options: StepOptions, picture: Path | None, extra_tokens: float | None) -> None:
    """Prints the time of a step under each recipe; ``picture``: a file for the stacked bars."""
    from dse.cost.roofline import step_interval

    if not options.recipes:
        raise UserError("name a recipe, for example: dse cost nvfp4 --model llama3-8b --hardware b200")
    model, machine = options.situation()
    recipes = {
        name: set_options(get(name), options.settings if number == 0 else ())
        for number, name in enumerate(options.recipes)
    }
    _trained(recipes)
    found = {name: step_interval(recipe, model, machine) for name, recipe in recipes.items()}
    print(f"{model.title} on {machine.profile.title}: {model.tokens:,} tokens per step", end="")
    print(f", tensor parallel {model.tensor_parallel}" if model.tensor_parallel > 1 else "")
    for name, interval in found.items():
        print(*_described(name, recipes[name], model, interval, extra_tokens), sep="\n")
    if len(found) > 1:
        print(*_order(found), sep="\n")
    if picture is not None:
        from dse.cost.time_pictures import stacked_bars

        stacked_bars(found, picture, f"{model.title} on {machine.profile.title}")
        print(f"\nwrote {picture}")


def layer(options: StepOptions, shape: str) -> None:
    """Prints the time of one layer's three GEMMs under each recipe; ``shape``: M,K,N."""
    from dse.cost import parse_shape
    from dse.cost.roofline import AS_MEASURED, OPTIMISTIC, layer_time
    from dse.cost.training_phases import training_phases, unstated
    from dse.recipes.bf16 import BF16

    own, (_, machine) = parse_shape(shape), options.situation()
    recipes = {name: set_options(get(name), options.settings) for name in options.recipes}
    _trained(recipes)
    base = layer_time(BF16, own, machine)
    print(f"{own} on {machine.profile.title}\nbf16: {1e3 * base.seconds:.3f} ms")
    for name, recipe in recipes.items():
        phases = training_phases(recipe)
        for phase in phases:
            low, high = (layer_time(phase.recipe, own, machine, how) for how in (OPTIMISTIC, AS_MEASURED))
            ends = sorted((low.seconds / base.seconds, high.seconds / base.seconds))
            when = f", {phase}" if len(phases) > 1 else ""
            print(f"\n{name}{when}: {ends[0]:.2f} to {ends[1]:.2f} of BF16's time ({_verdict(*ends)})")
            print(*_bars(high, low), *_missing(high.missing), sep="\n")
        print(*unstated(recipe), sep="\n", end="\n" if unstated(recipe) else "")


def _trained(recipes: Mapping[str, Recipe]) -> None:
    """Raises UserError for a recipe that quantizes after training, of which there is nothing to time here."""
    for name, recipe in recipes.items():
        if recipe.post is not None:
            raise UserError(
                f"{name} with post quantizes after training, which is BF16's; its costs at inference: dse cost {name} "
                "--set post=..., without --model and --hardware"
            )


def _described(
    name: str, recipe: Recipe, model: Deployed, interval: Interval, extra_tokens: float | None
) -> Iterable[str]:
    from dse.cost import overhead
    from dse.cost.roofline import time_to_quality
    from dse.cost.roofline.memory import extra_memory
    from dse.cost.training_phases import training_phases, unstated

    low, high = interval.relative
    slow, quick = interval.tokens_per_second
    memory = extra_memory(recipe, model)
    yield f"\n{name}: a step takes {low:.2f} to {high:.2f} of BF16's time ({_verdict(low, high)})"
    phases = training_phases(recipe)
    if len(phases) > 1:
        yield f"  the mean over {len(phases)} phases of the training, memory: that of the largest"
    yield from (f"  {text}" for text in unstated(recipe))
    yield f"  tokens/s and GPU   {slow:,.0f} to {quick:,.0f}"
    yield f"  extra memory       {memory.weights / 1e9:+.2f} GB of weights, {memory.activations / 1e9:+.2f} GB saved"
    yield f"  operations         {overhead(recipe):.1f} % of the FP4 GEMMs' time on Llama-3 8B (dse cost {name})"
    even = [f"{100 * (1 / end - 1):+.0f} %" for end in (high, low)]
    yield f"  equal quality      as fast as BF16 with {even[0]} to {even[1]} tokens"
    if extra_tokens is not None:
        ends = [f"{time_to_quality(end, extra_tokens / 100):.2f}" for end in (low, high)]
        yield f"                     with {extra_tokens:g} % more tokens: {ends[0]} to {ends[1]} of BF16's time"
    yield "  where the time goes, as measured (separate kernels) and optimistic (all that can be fused is):"
    yield from _bars(interval.high, interval.low)
    yield from (f"  {machine_lacks}" for machine_lacks in _missing(interval.missing))


def _verdict(low: float, high: float) -> str:
    if low >= 1:
        return "slower than BF16"
    return "faster than BF16" if high < 1 else "faster than BF16 only where kernels are fused"


def _bars(high: TimedParts, low: TimedParts) -> Iterable[str]:
    longest = max(high.parts.values())
    for part, seconds in high.parts.items():
        other = low.parts[part]
        if seconds or other:
            share, bar = 100 * seconds / high.seconds, "#" * round(_BAR * seconds / longest)
            yield f"    {part:13} {1e3 * seconds:9.3f} ms {share:3.0f} %  {1e3 * other:9.3f} ms  {bar}".rstrip()
    yield f"    {'sum':13} {1e3 * high.seconds:9.3f} ms        {1e3 * low.seconds:9.3f} ms"


def _missing(missing: Sequence[str]) -> Iterable[str]:
    for lacks in missing:
        yield f"this hardware lacks {lacks}: as measured such products run in BF16, the optimistic end imagines it"


def _order(found: dict[str, Interval]) -> Iterable[str]:
    yield "\nin the order of time, BF16 = 1:"
    for name, interval in sorted(found.items(), key=lambda item: sum(item[1].relative)):
        low, high = interval.relative
        yield f"  {name:24} {low:.2f} to {high:.2f}"


def check(docs: Path | None) -> None:
    """Prints the time model against published measurements; ``docs``: a page to write it into, with a picture beside.

    The constants are fitted anew; ones that differ from those of the package are told. Raises UserError for a page
    that cannot be read or written, or has no place for it.
    """
    from dse.cost.check import compared, fitted
    from dse.cost.check.table import lines, replaced
    from dse.cost.roofline import constants
    from dse.cost.roofline.constants import FITTED

    own, anew = constants(), fitted()
    rows = compared(own)
    text = "\n".join(lines(rows, own))
    if docs is None:
        print(text)
    else:
        from dse.cost.time_pictures import scatter

        try:
            page = replaced(docs.read_text(encoding="utf-8"), text)
            docs.write_text(page, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{docs}: {error}") from None
        scatter(rows, docs.with_suffix(".svg"))
        print(f"wrote {docs} and {docs.with_suffix('.svg')}")
    for name in FITTED:
        was, now = getattr(own, name), getattr(anew, name)
        if abs(now / was - 1) > 1e-3:
            print(f"{name}: fitted anew it is {now:.4g}, the package has {was:.4g}")


__all__ = ["StepOptions", "check", "layer", "steps"]
