"""The commands about numerics: `recipes`, `cost` and `schema`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from dse.errors import UserError, nearest
from dse.numerics.attention import PRODUCTS, Attention, Product
from dse.numerics.formats import ELEMENTS, SCALES, Format
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import GEMMS, POINTS, RECIPE_OPTIONS, SELECTORS, Exempt, Recipe, override
from dse.numerics.registry import FAMILIES, to_data, words
from dse.numerics.techniques.post import AutoQuantize
from dse.numerics.validate import check
from dse.optim import FIRST_MOMENTS, OPTIMIZERS, SECOND_MOMENTS
from dse.optim.loss_scaling import LOSS_SCALINGS
from dse.optim.moment_memory import formats_memory
from dse.recipes import RECIPES


def recipes(name: str | None, options: bool, model: str | None = None) -> None:
    if model is not None and (options or not name):
        raise UserError("--model shows what one recipe does with a task's layers; name the recipe")
    if options:
        _options()
    elif name and model is not None:
        print(on_model(get(name), model))
    elif name:
        _one(get(name))
    else:
        width = max(map(len, RECIPES))
        for recipe in RECIPES.values():
            print(f"{recipe.name:{width}}  {recipe.summary}\n{'':{width}}  {recipe.source}")


def cost(name: str, shape: str | None, settings: list[str]) -> None:
    from rich.console import Console

    from dse.cost import attention, breakdown, by_layer, overhead, relative_time, render
    from dse.cost.shapes import LLAMA3_8B, parse_shape
    from dse.cost.training_phases import training_phases, unstated

    recipe = set_options(get(name), settings)
    layers = (parse_shape(shape),) if shape else LLAMA3_8B
    console = Console()
    phases = training_phases(recipe)
    for phase in phases:
        if len(phases) > 1:
            print(f"{phase}:\n")
        for own, layer in by_layer(phase.recipe, layers):
            console.print(render(breakdown(own, layer), layer))
        for product, layer in attention(phase.recipe, layers):
            console.print(render(breakdown(product, layer), layer))
    title = " ".join([name, *settings])
    gemms = "three GEMMs with them take" if recipe.post is None else "forward GEMM with them takes"
    print(
        f"{title}: vector operations take {overhead(recipe, layers):.1f} % of the GEMM time if nothing overlaps; "
        f"the {gemms} {relative_time(recipe, layers):.2f} of the BF16 time"
    )
    if len(phases) > 1:
        print(f"both are means over the {len(phases)} phases of the training")
    for text in unstated(recipe):
        print(text)
    if isinstance(recipe.post, AutoQuantize):
        print(
            f"formats: in the shares that make the budget, {recipe.post.bits:g} bits per weight; a report takes the "
            "shares that its searches have found"
        )
    print(
        "the optimizer's moments are settings of the training (training.first_moment, second_moment), in bytes per "
        f"parameter: {formats_memory()}"
    )


def set_options(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with options of the command line set, each PATH=VALUE. Raises UserError for what does not fit."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting!r}: write PATH=VALUE, for example G.rounding=stochastic")
        recipe = override(recipe, path, _value(text))
    check(recipe)
    return recipe


def on_model(recipe: Recipe, model: str) -> str:
    """What a recipe does with each layer of a task's model, as a table; ``model``: ``task`` or ``task:size``.

    Raises UserError for an unknown task or size, and for a rule that decides about no layer.
    """
    from dse.nn.coverage import coverage
    from dse.nn.quantize import quantize_
    from dse.plan import model_of
    from dse.trial import make_task

    name, _, size = model.partition(":")
    task = make_task(name, {"size": size} if size else {})
    return coverage(quantize_(model_of(task), recipe, exempt=task.exempt())).table()


def get(name: str) -> Recipe:
    """A recipe of the gallery by name. Raises UserError with the nearest name."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]


def _one(recipe: Recipe) -> None:
    print(f"{recipe.name}: {recipe.summary}\nsource: {recipe.source}")
    print(*(f"  {line}" for line in describe(recipe)), sep="\n")


def describe(recipe: Recipe, full: bool = False) -> Iterator[str]:
    """The six quantization points, the rotations, and every further option that is not at its default.

    ``full``: with every parameter, also those at their default.
    """
    data = resolved if full else to_data
    yield from _points(recipe, data)
    rest = {name: own for name, own in to_data(recipe).items() if name not in (*GEMMS, "attention")}
    yield from (f"{name}: {short(own)}" for name, own in rest.items())
    if recipe.attention is not None:
        for name in PRODUCTS:
            product = getattr(recipe.attention, name)
            yield from (f"attention.{name}.{line}" for line in _points(product, data))
            if product.backward_source != "original":
                yield f"attention.{name}.backward_source: {product.backward_source}"
        if recipe.attention.smooth_keys:
            yield "attention.smooth_keys: True"
        if recipe.attention.smooth_queries is not None:
            yield f"attention.smooth_queries: {recipe.attention.smooth_queries}"


def _points(owner: Recipe | Product, data: Callable[[Any], Any]) -> Iterator[str]:
    for point in POINTS:
        yield f"{point:10} {short(data(owner.quantizer(point)))}"
    for gemm in GEMMS:
        for name in ("rotation", "accumulation"):
            if part := getattr(getattr(owner, gemm), name, None):
                yield f"{gemm}.{name} {short(data(part))}"


def resolved(obj: Any) -> Any:
    """``to_data`` with the fields that are at their default, but without those that are None."""
    own = to_data(obj)
    if not is_dataclass(obj) or isinstance(obj, type | Format):
        return own
    values = {f.name: resolved(getattr(obj, f.name)) for f in fields(obj) if getattr(obj, f.name) is not None}
    family = next((family for family in FAMILIES.values() if type(obj) in family.values()), None)
    if family is None:
        return values
    name = own if isinstance(own, str) else next(iter(own))
    return {name: values} if values else name


def _options() -> None:
    """Every option of every axis, from the registries."""
    print(f"points   {', '.join(SELECTORS)}\n         (an option is written POINT.NAME, for example G.rounding)\n")
    print(f"element  {', '.join(ELEMENTS)}\nscale    {', '.join(SCALES)}\n")
    print("gemm (written GEMM.NAME, for example wgrad.rotation):")
    print(*(f"  {line}" for line in _parameters(Gemm)), "recipe (written without a point):", sep="\n")
    print(*(f"  {line}" for line in _parameters(Recipe) if line.split(":")[0] in RECIPE_OPTIONS), sep="\n")
    print(*(f"    exempt.{line}" for line in _parameters(Exempt)), sep="\n")
    print("    attention: same (as the linears), none, or for each of its products the options above, written")
    print("    attention.PRODUCT.POINT.NAME, for example attention.scores.G.rounding (without PRODUCT: of both)")
    print(*(f"    attention.{line}" for line in _parameters(Attention)), "", sep="\n")
    for base, family in FAMILIES.items():
        print(f"{words(base)}:")
        for name, cls in family.items():
            first = (cls.__doc__ or "").strip().splitlines()[0]
            print(f"  {name:18} {first}")
            for line in _parameters(cls):
                print(f"  {'':18}   {line}")
    print("training.optimizer:    " + ", ".join(OPTIMIZERS))
    print("training.loss_scaling: " + ", ".join(LOSS_SCALINGS))
    print("training.first_moment: " + ", ".join(FIRST_MOMENTS))
    print("training.second_moment: " + ", ".join(SECOND_MOMENTS))


def _parameters(cls: type) -> list[str]:
    hints = get_type_hints(cls)
    lines = []
    for f in fields(cls):
        hint = str(hints[f.name]) if get_args(hints[f.name]) else hints[f.name].__name__
        kind = re.sub(r"\b\w+\.", "", hint)  # without modules
        if f.default is not MISSING:
            lines.append(f"{f.name}: {kind} = {short(to_data(f.default))}")
        else:
            lines.append(f"{f.name}: {kind}")
    return lines


def short(data: Any) -> str:
    """Plain data in one line: {'block': {'scale': 'ue4m3'}} -> block(scale=ue4m3)."""
    if isinstance(data, dict):
        return ", ".join(
            f"{key}({', '.join(f'{k}={short(v)}' for k, v in value.items())})"
            if isinstance(value, dict)
            else f"{key}={value}"
            for key, value in data.items()
        )
    return str(data)


def _value(text: str) -> Any:
    """A value of ``--set`` as YAML reads it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def schema() -> None:
    """Prints the JSON Schema of sweep files."""
    import json

    from dse.sweep import schema_json

    print(json.dumps(schema_json(), indent=1))
