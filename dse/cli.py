"""The command line. Each command parses its options and calls one function of ``dse.commands``.

Everything that changes a result is set in the sweep file.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from signal import SIGINT, Signals
from typing import Annotated

import typer

from dse.errors import UserError
from dse.extras import missing_extra

app = typer.Typer(
    help="Design-space exploration of FP4 and microscaling quantized training.\n\n"
    "Describe recipes and tasks in a sweep file, run it, and read the Pareto report. Running the same command again "
    "resumes: what is done is never repeated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: dse init, which writes sweep.yaml; then: dse run sweep.yaml",
)


class ExecutorName(StrEnum):
    ray = "ray"
    local = "local"
    tune = "tune"


class Retry(StrEnum):
    none = "none"
    failed = "failed"
    all = "all"


SweepPath = Annotated[Path, typer.Argument(help="Sweep file (YAML), for example sweep.yaml", metavar="FILE")]


def _home(path: Path | None) -> Path | None:
    """``--results=~/x`` reaches the program as it stands: a shell expands ~ at the beginning of a word alone."""
    return path.expanduser() if path else None


def _version(asked: bool) -> None:
    if asked:
        from dse.version import __version__

        typer.echo(f"dse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and nothing else")
    ] = False,
) -> None:
    """Options of ``dse`` itself; its help is the application's."""


ResultsFolder = Annotated[Path, typer.Option(help="Folder of results", envvar=None, callback=_home)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with data sets of your own; see: dse data", metavar="DIR", callback=_home),
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Trials at a time (default: one per processor or GPU)")
]
Yes = Annotated[bool, typer.Option("--yes", help="Go on with a sweep of more than 100,000 cells")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="File or module with techniques and recipes of your own; repeatable", metavar="FILE"),
]
RESULTS = Path("results")
REPORTS = Path("reports")


@app.command(epilog="Examples: dse init | dse init study --task --technique")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the files, made if need be", callback=_home)] = Path(),
    task: Annotated[bool, typer.Option("--task", help="Also write my_task.py, a task to change")] = False,
    technique: Annotated[
        bool, typer.Option("--technique", help="Also write my_technique.py, a technique to change")
    ] = False,
) -> None:
    """Write sweep.yaml, a commented sweep to begin from."""
    from dse.commands import init

    init.init(folder, task, technique)


@app.command(epilog="Example: dse plan sweep.yaml")
def plan(
    file: SweepPath,
    results: ResultsFolder = RESULTS,
    data_dir: DataDir = None,
    workers: Workers = None,
    yes: Yes = False,
) -> None:
    """Show what a sweep would run, what is done, what is left out and why, and how long it takes. Nothing runs."""
    from dse.commands import sweeps

    sweeps.plan(file, results, data_dir, workers, yes)


@app.command(epilog="Examples: dse run sweep.yaml --workers 2 | dse run sweep.yaml --executor tune")
def run(
    file: SweepPath,
    results: ResultsFolder = RESULTS,
    data_dir: DataDir = None,
    workers: Workers = None,
    executor: Annotated[
        ExecutorName,
        typer.Option(
            help="Where trials run: ray, packs in workers of this machine or of the cluster at RAY_ADDRESS; local, in "
            "this process; tune, long trials through Ray Tune, stopped at rungs by ASHA where the sweep has halving"
        ),
    ] = ExecutorName.ray,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one")] = "auto",
    gpus_per_worker: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of a GPU that each worker takes: 0.5 puts two on each GPU")
    ] = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Just this trial: the beginning of its uid, or CONFIG@SEED", metavar="TRIAL"),
    ] = None,
    retry: Annotated[
        Retry, typer.Option(help="Which trials with a result to run again: those that failed, or all")
    ] = Retry.none,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that a trial may train (default: as long as it takes)")
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            "--then",
            help="Shell command to run once every trial has a result; finds this run's exit code in $DSE_EXIT_CODE, "
            "counts in $DSE_OK, $DSE_DIVERGED, $DSE_FAILED, places in $DSE_SWEEP, $DSE_RESULTS",
            metavar="COMMAND",
        ),
    ] = None,
    track: Annotated[bool, typer.Option(help="Write each result to MLflow while the sweep runs")] = True,
    yes: Yes = False,
) -> None:
    """Run every trial of a sweep that has no result yet. Running it again is the resume.

    Exit code: 0, every trial has a result, and none has failed; 1, a trial has failed or has no result, or the command
    of --then has failed; 2, a mistake in the input, or a folder that cannot be written; 130, 143, 129: stopped by
    Ctrl-C, SIGTERM, SIGHUP. After SIGTERM a run ends within 30 seconds, and long trials leave a checkpoint.
    """
    from dse.commands import sweeps
    from dse.terminal import go_on_unheard
    from dse.train.options import RunOptions

    go_on_unheard()
    try:
        options = RunOptions(
            executor.value,
            workers,
            gpus_per_worker,
            device,
            data_dir,
            timeout,
            only=only or (),
            retry=retry.value,
            track=track,
        )
        code = sweeps.run(file, results, options, then, yes)
    except KeyboardInterrupt as stopped:  # typer would end without a word
        code = _stopped(stopped)
    raise typer.Exit(code)


@app.command(epilog="Example: dse status sweep.yaml")
def status(
    file: Annotated[
        Path | None, typer.Argument(help="Sweep file; without one, everything in the results folder")
    ] = None,
    results: ResultsFolder = RESULTS,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every 2 s, until the sweep is complete")] = False,
) -> None:
    """Show how far a sweep is, who is at work, the best configuration per task, and what diverged or failed."""
    from dse.commands import status

    status.status(file, results, watch)


@app.command(epilog="Examples: dse why 3f0c6a | dse why 'mxfp4 G.rounding=stochastic@0'")
def why(
    trial: Annotated[str, typer.Argument(help="The beginning of a trial's uid, or CONFIG@SEED", metavar="TRIAL")],
    results: ResultsFolder = RESULTS,
    plugin: Plugins = None,
) -> None:
    """Show everything about one trial: numerics, result, baseline and neighbors, provenance, and how to rerun it."""
    from dse.commands import why
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    why.why(trial, results)


@app.command(epilog="Examples: dse report sweep.yaml --out reports | dse report formats.yaml stabilizers.yaml")
def report(
    files: Annotated[
        list[Path], typer.Argument(help="Sweep file (YAML), or several: one report of all their trials", metavar="FILE")
    ],
    results: ResultsFolder = RESULTS,
    out: Annotated[Path, typer.Option(help="Folder for the page and its CSV files", callback=_home)] = REPORTS,
) -> None:
    """Write the report of a sweep: one HTML page with the Pareto front, and the same data as CSV.

    Of several sweeps: one page. A trial that is in two of them counts once, so baselines are shared where they are the
    very same trials; a configuration whose name means different trials bears its sweep's name.
    """
    from dse.commands import sweeps

    sweeps.report(files, results, out)


@app.command(
    epilog="Examples: dse ask sweeps/quickstart.yaml 'best under 10 % overhead' | dse ask sweeps/stabilizers.yaml "
    "'does stochastic rounding help with hadamard'"
)
def ask(
    file: SweepPath,
    question: Annotated[
        str,
        typer.Argument(
            help="best [under N % overhead] [on TASK]; cheapest within .01 [on TASK]; does OPTION help [with OTHER]; "
            "is CONFIG better than CONFIG; what to try next",
            metavar="QUESTION",
        ),
    ],
    results: ResultsFolder = RESULTS,
) -> None:
    """Answer a question about a sweep in one sentence with an interval, and name the trials behind it."""
    from dse.commands import ask

    ask.ask(file, question, results)


@app.command(epilog="Examples: dse compare nvfp4 mxfp4 | dse compare sweeps/before.yaml sweeps/after.yaml")
def compare(
    a: Annotated[str, typer.Argument(help="A configuration, or a sweep file", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another one", metavar="B")],
    results: ResultsFolder = RESULTS,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Sweep file of the configurations (default: the one in the results with both)"),
    ] = None,
) -> None:
    """Say what differs between two configurations or two sweeps, with intervals of differences paired by seed."""
    from dse.commands import ask

    ask.compare(a, b, results, sweep)


@app.command(epilog="Example: dse power sweep.yaml --gap 0.01")
def power(
    file: SweepPath,
    results: ResultsFolder = RESULTS,
    gap: Annotated[list[float] | None, typer.Option(help="Gap in the held-out metric to see; repeatable")] = None,
) -> None:
    """Say how many seeds a comparison needs to see a given gap, from the noise that the sweep has measured."""
    from dse.commands import power as command

    command.power(file, results, gap or ())


@app.command(epilog="Example: dse dashboard --port 5000")
def dashboard(
    results: ResultsFolder = RESULTS,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page")] = 5000,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Delete the MLflow database and rebuild it first")] = False,
    optuna: Annotated[
        Path | None, typer.Option("--optuna", help="Show this sweep's search in optuna-dashboard instead")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in this machine's browser, if it has a screen")] = True,
) -> None:
    """Open MLflow's web page on the results, at the newest sweep's runs sorted by gap (stop it with Ctrl-C)."""
    from dse.commands import sweeps

    sweeps.dashboard(results, port, rebuild, optuna, browser)


@app.command(
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


@app.command(
    epilog="Examples: dse cost nvfp4 | dse cost mxfp4 --set G.rounding=stochastic --shape 8192,4096,14336 | "
    "dse cost nvfp4 --model llama3-8b --hardware b200 | dse cost --compare nvfp4 mxfp4 --model my.yaml | "
    "dse cost --check"
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
) -> None:
    """Show a recipe's overhead by GEMM, operand and technique, or the time of a training step on hardware."""
    from dse.commands import cost as costs
    from dse.commands import gallery
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    if check:
        costs.check(docs)
    elif model or hardware or tokens or tensor_parallel or compare or picture or extra_tokens is not None:
        names = (*(compare or ()), *([recipe] if recipe else []))
        options = costs.StepOptions(names, tuple(settings or ()), model, hardware, tokens, tensor_parallel)
        if shape:
            costs.layer(options, shape)
        else:
            costs.steps(options, picture, extra_tokens)
    elif recipe is None:
        raise UserError("name a recipe; dse recipes lists them")
    else:
        gallery.cost(recipe, shape, settings or [])


@app.command(epilog="Example: dse data --data-dir ~/datasets")
def data(data_dir: DataDir = None) -> None:
    """List the data sources: which work offline, which were found where, which can be downloaded."""
    from dse.commands import machine

    machine.data(data_dir)


@app.command(epilog="Example: dse doctor")
def doctor(results: ResultsFolder = RESULTS) -> None:
    """Check this installation: versions, devices, Ray, folders, and that the arithmetic is exact on each device."""
    from dse.commands import machine

    machine.doctor(results)


@app.command(epilog="Example: dse schema > sweep.schema.json")
def schema(plugin: Plugins = None) -> None:
    """Print the JSON Schema of sweep files, with which editors complete and check them."""
    from dse.commands import gallery
    from dse.plugins import load_plugins

    load_plugins(plugin or ())
    gallery.schema()


bench = typer.Typer(help="Measure this machine: each figure beside its floor and its peers.", no_args_is_help=True)
app.add_typer(bench, name="bench")
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one")]
Out = Annotated[Path | None, typer.Option("--out", help="JSON file for the table", metavar="FILE")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes and hardly any time: does it run?")]


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


def _stopped(stopped: KeyboardInterrupt) -> int:
    """One line about a run that ended at once, and its exit code."""
    from dse.commands.follow_up import same_command

    number = getattr(stopped, "number", SIGINT)
    typer.echo(f"stopped by {Signals(number).name}; go on with: {same_command()}", err=True)
    return 128 + number


def main() -> None:
    """Entry point: an error is one line on stderr and exit code 2 (the input) or 1 (all else), never a traceback."""
    from dse.terminal import prepare

    prepare()
    try:
        app(standalone_mode=True)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if not (text := missing_extra(error)):
            raise
        typer.echo(f"error: {text}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
