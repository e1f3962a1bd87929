"""The command line. Each command parses its options and calls one function of ``dse.commands``.

Here: commands about a sweep and its results; those without one are in ``cli_reference``. Everything that changes a
result is set in the sweep file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGINT, Signals
from typing import Annotated, Any

import typer

from dse.cli_options import (
    REPORTS,
    RESULTS,
    Account,
    Cpus,
    DataDir,
    ExecutorName,
    Gpus,
    Jobs,
    JobTime,
    Nodes,
    Partition,
    Plugins,
    ResultsFolder,
    Retry,
    Sbatch,
    Slurm,
    SweepPath,
    Workers,
    Yes,
    home,
)
from dse.cli_reference import bench, reference
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


@app.command(epilog="Examples: dse init | dse init study --task --technique")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the files, made if need be", callback=home)] = Path(),
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


@app.command(
    epilog="Examples: dse run sweep.yaml --workers 2 | dse run sweep.yaml --executor tune | "
    "dse run sweep.yaml --slurm --gpus 8 --time 8:00:00"
)
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
    slurm: Slurm = False,
    partition: Partition = None,
    account: Account = None,
    time: JobTime = None,
    nodes: Nodes = None,
    jobs: Jobs = None,
    gpus: Gpus = None,
    cpus: Cpus = None,
    sbatch: Sbatch = None,
) -> None:
    """Run every trial of a sweep that has no result yet. Running it again is the resume.

    Exit code: 0, every trial has a result, and none has failed; 1, a trial has failed or has no result, or the command
    of --then has failed; 2, a mistake in the input, or a folder that cannot be written; 130, 143, 129: stopped by
    Ctrl-C, SIGTERM, SIGHUP. After SIGTERM a run ends within 30 seconds, and long trials leave a checkpoint. With
    --slurm the jobs end with these codes; the command itself ends with 0 once they are in the queue.
    """
    from dse.commands import sweeps
    from dse.terminal import go_on_unheard
    from dse.train.options import RunOptions

    asked = {
        "partition": partition,
        "account": account,
        "time": time,
        "nodes": nodes,
        "jobs": jobs,
        "gpus": gpus,
        "cpus": cpus,
        "sbatch": tuple(sbatch) if sbatch else None,
    }
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
        if _submitted(slurm, asked, file, results, options, then, yes):
            return
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


@app.command(
    epilog="Examples: dse report sweep.yaml --out reports | dse report formats.yaml stabilizers.yaml | "
    "dse report sweep.yaml --place 'llama3-70b on gb200'"
)
def report(
    files: Annotated[
        list[Path], typer.Argument(help="Sweep file (YAML), or several: one report of all their trials", metavar="FILE")
    ],
    results: ResultsFolder = RESULTS,
    out: Annotated[Path, typer.Option(help="Folder for the page and its CSV files", callback=home)] = REPORTS,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place",
            help="Model and hardware at which times are stated, in the place of the sweep's; repeatable, the first is "
            "shown at once",
            metavar="'MODEL on HARDWARE'",
        ),
    ] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="A page to send or to publish: without links to the files beside it")
    ] = False,
) -> None:
    """Write the report of a sweep: one HTML page with the Pareto front, and the same data as CSV.

    Of several sweeps: one page. A trial that is in two of them counts once, so baselines are shared where they are the
    very same trials; a configuration whose name means different trials bears its sweep's name.
    """
    from dse.commands import sweeps

    sweeps.report(files, results, out, place or (), standalone)


@app.command(
    epilog="Examples: dse ask sweeps/quickstart.yaml 'best under 10 % overhead' | dse ask sweeps/stabilizers.yaml "
    "'does stochastic rounding help with hadamard'"
)
def ask(
    file: SweepPath,
    question: Annotated[
        str,
        typer.Argument(
            help="best (under N % overhead) (on TASK); cheapest within .01 (on TASK); does OPTION help (with OTHER); "
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


app.registered_commands += reference.registered_commands
app.add_typer(bench, name="bench")


def _submitted(slurm: bool, asked: dict[str, Any], *job: Any) -> bool:
    """Whether the run was handed to Slurm. ``asked``: of Slurm, None where nothing is; ``job``: fields of a SweepJob.

    Raises UserError where something is asked of Slurm without --slurm.
    """
    from dse.run.slurm.request import SlurmRequest, given_options

    given = {name: value for name, value in asked.items() if value is not None}
    if not slurm:
        given_options(given)
        return False
    from dse.commands.slurm import SweepJob, submit

    submit(SlurmRequest(**given), SweepJob(tuple(sys.argv), *job))
    return True


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
