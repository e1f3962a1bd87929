"""Writes a report: computes everything from a sweep and its records, then writes the page and the CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.report.analysis.agreement import compare_rankings
from dse.report.analysis.claim_results import claim_results
from dse.report.analysis.configs import ALL, aggregate_seeds, highlighted_configs
from dse.report.analysis.deployment import deployment_frame
from dse.report.analysis.effects import Effect, option_effects
from dse.report.analysis.front_draws import front_draws
from dse.report.analysis.interactions import interactions
from dse.report.analysis.law_fits import task_laws
from dse.report.analysis.learned import learned_shares
from dse.report.analysis.mixed_results import mixed_frame
from dse.report.analysis.post_front import post_front_frame
from dse.report.analysis.proxies import SizeProxy, StepProxy, size_proxies, step_proxies
from dse.report.analysis.searches import SearchHistory, search_histories
from dse.report.analysis.tidy import tabulate
from dse.report.analysis.training_curves import training_curves
from dse.report.analysis.variance_shares import VarianceShares, variance_shares
from dse.report.analysis.varied_look import by_varied_option
from dse.report.csv_files import write_csv, write_latex
from dse.report.output_paths import output_name
from dse.report.page import render_page
from dse.report.probe_summary import probed_tasks, shown_probe_frame
from dse.report.report_data import ReportData
from dse.report.report_figures import ReportFigures
from dse.report.sections.agreement_rows import agreement_frame
from dse.report.sections.claim_rows import claim_frame
from dse.report.sections.interaction_rows import interaction_frame
from dse.report.sections.law_rows import law_frame
from dse.report.sections.learned_rows import learned_frame
from dse.report.sections.sample_grids import samples_frame

if TYPE_CHECKING:
    import pandas as pd

    from dse.cost.cost_places import CostPlace
    from dse.results.record import Record
    from dse.sweep import Sweep


_RAW = ("trials.csv", "curves.csv", "inside.csv")
"""Data by trial, step or layer, which nobody prints: the other files are LaTeX tables too."""


def write_report(
    sweep: Sweep,
    records: Iterable[Record],
    folder: Path,
    results: Path | None = None,
    places: Sequence[CostPlace] = (),
    standalone: bool = False,
) -> Path:
    """Computes and writes the page and its CSV files, as ``dse.report.write_report`` documents."""
    name = output_name(sweep, folder)
    path, data = folder / f"{name}.html", folder / name
    with _told(folder):  # before all that takes time
        data.mkdir(parents=True, exist_ok=True)
    table = tabulate(sweep, records)
    configs = aggregate_seeds(table)
    found = option_effects(table)
    chosen = highlighted_configs(*by_varied_option(table, configs))
    points = training_curves(table, chosen)
    seen = [] if configs.empty else probed_tasks(table, configs, results)
    asked, ranked = search_histories(sweep, table, results), compare_rankings(table)
    learned, claims = learned_shares(table), claim_results(table)
    crossed, shares = interactions(table), variance_shares(table, configs)
    front, steps, sizes = front_draws(table, configs), step_proxies(table), size_proxies(table)
    report = ReportData(
        sweep, table, configs, found, chosen, points, name, asked, seen, ranked, crossed, shares, front, steps, sizes,
        learned, claims, task_laws(table), results, folder, tuple(places),
    )  # fmt: skip
    figures = ReportFigures(report)
    html = render_page(report, figures, standalone)
    made = samples_frame(table)
    with _told(folder):
        for frame, file in (
            (table.frame, "trials.csv"),
            (configs.drop(columns="estimate", errors="ignore"), "configs.csv"),
            (effects_frame(found), "effects.csv"),
            (points, "curves.csv"),
            *([(interaction_frame(crossed), "interactions.csv")] if crossed else []),
            *([(shares_frame(shares), "variance.csv")] if shares else []),
            *([(proxy_frame(steps, sizes), "proxies.csv")] if steps or sizes else []),
            *([(search_frame(asked), "search.csv")] if asked else []),
            *([(made, "samples.csv")] if len(made) else []),
            *([(shown_probe_frame(seen), "inside.csv")] if seen else []),
            *([(agreement_frame(ranked), "agreement.csv")] if ranked else []),
            *([(learned_frame(learned), "learned.csv")] if learned else []),
            *([(claim_frame(claims), "claims.csv")] if claims else []),
            *([(law_frame(report.laws), "law.csv")] if report.laws else []),
            *([(post_front_frame(report.after_training), "after-training.csv")] if report.after_training else []),
            *([(mixed_frame(report.mixed), "mixed-quantization.csv")] if report.mixed else []),
            *([(deployment_frame(report.places), "deployment.csv")] if report.table.records and report.places else []),
        ):
            write_csv(frame, data / file)
            if file not in _RAW:
                write_latex(frame, (data / file).with_suffix(".tex"))
        for file, drawn in figures.files.items():
            (data / f"{file}.svg").write_bytes(drawn.svg)
            (data / f"{file}.pdf").write_bytes(drawn.pdf)
        path.write_text(html, encoding="utf-8")
    return path


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Context in which a folder that cannot be written raises UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write the report to {folder}: {error.strerror or error}") from None


def search_frame(found: Sequence[SearchHistory]) -> pd.DataFrame:
    """One row per configuration of a search, in the order of asking."""
    import pandas as pd

    names = ("number", "config", "recipe", "gap", "overhead", "state", "front")
    rows = [
        {"task": search.task, **{name: getattr(choice, name) for name in names}, "best_so_far": best}
        for search in found
        for choice, best in zip(search.configurations, search.best_so_far, strict=True)
    ]
    return pd.DataFrame(rows)


def effects_frame(found: list[Effect]) -> pd.DataFrame:
    """One row per effect, numbers in full."""
    import pandas as pd

    rows = [
        {
            "kind": e.kind,
            "axis": e.axis,
            "value": e.value,
            "reference": e.reference,
            "scope": e.scope,
            "recipe": e.recipe,
            "lost_difference": e.lost.mean,
            "lost_low": e.lost.low,
            "lost_high": e.lost.high,
            "across_low": e.across.low if e.scope == ALL else None,
            "across_high": e.across.high if e.scope == ALL else None,
            "gap_difference": e.gap.mean if e.gap else None,
            "gap_low": e.gap.low if e.gap else None,
            "gap_high": e.gap.high if e.gap else None,
            "seeds": e.lost.n,
            "pairs": e.pairs,
            "better": e.better,
            "worse": e.worse,
            "only_value_diverged": e.only_value_diverged,
            "only_reference_diverged": e.only_reference_diverged,
            "p": e.lost.p,
            "p_holm": e.p_holm,
        }
        for e in found
    ]
    return pd.DataFrame(rows)


def shares_frame(found: VarianceShares) -> pd.DataFrame:
    """One row per option and pair of options: its share of the variance."""
    import pandas as pd

    single = [{"axis": axis, "with": "", "share": share} for axis, share in found.first.items()]
    return pd.DataFrame(single + [{"axis": a, "with": b, "share": share} for (a, b), share in found.second.items()])


def proxy_frame(steps: Sequence[StepProxy], sizes: Sequence[SizeProxy]) -> pd.DataFrame:
    """One row per step of a task, and per quicker variant of one."""
    import pandas as pd

    rows: list[dict[str, object]] = [
        {"task": one.task, "by": one.kind, "step": at.step}
        | {"kendall": at.tau, "pairs": one.decided, "reversed": at.reversed}
        for one in steps
        for at in one.steps
    ]
    rows += [
        {"task": one.task, "by": one.reference, "kendall": one.tau, "pairs": one.decided, "reversed": one.reversed}
        for one in sizes
    ]
    return pd.DataFrame(rows)
