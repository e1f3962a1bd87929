"""Commands that run no sweep: they look up recipes, costs and data, check this machine, and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dse.cli_options import RESULTS, DataDir, Device, Out, Plugins, Quick, ResultsFolder
from dse.errors import UserError

reference = typer.Typer()
bench = typer.Typer(help="Measure this machine: each figure beside its floor and its peers.", no_args_is_help=True)


@reference.command(
    epilog="Examples: dse recipes | dse recipes nvfp4 | dse recipes nvfp4 --model lm:small | dse recipes --options"
)
def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe to show in full")] = None,
    options: Annotated[bool, typer.Option("--options", help="List every option of every axis")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="TASK or TASK:SIZE: show what the recipe does with each of its layers")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List the gallery of recipes with their sources, show one in full or on a task's model, or list every option."""
    from dse.commands import gallery
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    gallery.recipes(name, options, model)


@reference.command(
    epilog="Examples: dse cost nvfp4 | dse cost mxfp4 --set G.rounding=stochastic --shape 8192,4096,14336 | "
    "dse cost nvfp4 --model llama3-8b --hardware b200 | dse cost --compare nvfp4 mxfp4 --model my.yaml | "
    "dse cost --check | dse cost --measure --model llama3-8b"
)
def cost(
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe; see: dse recipes")] = None,
    shape: Annotated[
        str | None, typer.Option(help="M,K,N: tokens, input and output features; default: Llama-3 8B's layers")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Option to override, PATH=VALUE; repeatable", metavar="PATH=VALUE")
    ] = None,
    plugin: Plugins = None,
    model: Annotated[
        str | None, typer.Option(help="Time of a training step of this model: a name, or a .yaml file of your own")
    ] = None,
    hardware: Annotated[str | None, typer.Option(help="On this hardware: a name, or a .yaml file of your own")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per step and GPU, in place of the model's")] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(min=1, help="GPUs that share a layer's matrices, in place of the model's")
    ] = None,
    compare: Annotated[list[str] | None, typer.Option(help="Another recipe to compare with; repeatable")] = None,
    extra_tokens: Annotated[
        float | None, typer.Option(min=0, help="Tokens more than BF16 needs for the same loss, in percent")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw where the time goes: a .svg, .png or .pdf file")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare the time model with published measurements")] = False,
    docs: Annotated[Path | None, typer.Option(help="With --check: write the table and picture into this page")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the kernels of a model's layers here, beside what is predicted")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="With --measure: the JSON file to write (default: cost-MODEL-HARDWARE.json)")
    ] = None,
) -> None:
    """Show a recipe's overhead by GEMM, operand and technique, or the time of a training step on hardware."""
    from dse.commands import cost as costs
    from dse.commands import gallery
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    names = (*(compare or ()), *([recipe] if recipe else []))
    options = costs.StepOptions(names, tuple(settings or ()), model, hardware, tokens, tensor_parallel)
    if check:
        costs.check(docs)
    elif measure:
        from dse.commands import measured_cost

        measured_cost.measure(options, save)
    elif model or hardware or tokens or tensor_parallel or compare or picture or extra_tokens is not None:
        if shape:
            costs.layer(options, shape)
        else:
            costs.steps(options, picture, extra_tokens)
    elif recipe is None:
        raise UserError("name a recipe; dse recipes lists them")
    else:
        gallery.cost(recipe, shape, settings or [])


@reference.command(epilog="Example: dse data --data-dir ~/datasets")
def data(data_dir: DataDir = None) -> None:
    """List the data sources: which work offline, which were found where, which can be downloaded."""
    from dse.commands import machine

    machine.data(data_dir)


@reference.command(epilog="Example: dse doctor")
def doctor(results: ResultsFolder = RESULTS) -> None:
    """Check this installation: versions, devices, Ray, folders, and that the arithmetic is exact on each device."""
    from dse.commands import machine

    machine.doctor(results)


@reference.command(epilog="Example: dse schema > sweep.schema.json")
def schema(plugin: Plugins = None) -> None:
    """Print the JSON Schema of sweep files, with which editors complete and check them."""
    from dse.commands import gallery
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    gallery.schema()


@bench.command("kernels", epilog="Example: dse bench kernels --out kernels.json")
def bench_kernels(device: Device = "auto", out: Out = None, quick: Quick = False, size: int | None = None) -> None:
    """Time the quantizers on a square operand against a copy of it."""
    from dse.commands import bench as command

    command.kernels(device, out, quick, size)


@bench.command("packs", epilog="Example: dse bench packs --models gpt128 --models mlp --budget 90")
def bench_packs(
    device: Device = "auto",
    out: Out = None,
    quick: Quick = False,
    models: Annotated[list[str] | None, typer.Option(help="mlp, gpt128, gpt256, dit, vit, image_mlp")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Variants: pack, bf16, eager, processes, ...")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Trials in a pack (default 64)")] = None,
    budget: Annotated[float, typer.Option(help="Seconds after which nothing more is begun")] = 150.0,
    peer: Annotated[list[str] | None, typer.Option(help="PACKAGE=FOLDER of torchao or microxcaling")] = None,
) -> None:
    """Time packs against eager trials, plain BF16 and other simulators."""
    from dse.commands import bench as command

    options = command.PacksOptions(quick, models or (), only or (), width, budget, peer or ())
    command.packs(device, out, options)


@bench.command("sweep", epilog="Example: dse bench sweep --trials 1000")
def bench_sweep(device: Device = "auto", out: Out = None, quick: Quick = False, trials: int = 1000) -> None:
    """Time a sweep of small trials against the sum of its packs."""
    from dse.commands import bench as command

    command.sweep(device, out, quick, trials)
