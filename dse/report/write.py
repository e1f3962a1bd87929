"""From a sweep and its records to files: the page, and the data of its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dse.errors import UserError
from dse.report.analysis.agreement import rankings
from dse.report.analysis.configs import aggregate
from dse.report.analysis.effects import Effect, effects
from dse.report.analysis.highlights import highlights
from dse.report.analysis.searches import Hunt, hunts
from dse.report.analysis.tidy import tabulate
from dse.report.analysis.training_curves import curves
from dse.report.csv_files import write_csv
from dse.report.output_paths import place
from dse.report.page import Study, page
from dse.report.probed import inside_frame, scenes
from dse.report.sections.agreement_rows import agreement_frame
from dse.report.sections.sample_strips import samples_frame

if TYPE_CHECKING:
    import pandas as pd

    from dse.results.record import Record
    from dse.sweep import Sweep


def write(sweep: Sweep, records: Iterable[Record], folder: Path, results: Path | None = None) -> Path:
    """See ``dse.report.write_report``."""
    table = tabulate(sweep, records)
    configs = aggregate(table)
    found = effects(table)
    chosen = highlights(table, configs)
    points = curves(table, chosen)
    name = place(sweep, folder)
    seen = [] if configs.empty else scenes(table, configs, results)
    asked, ranked = hunts(sweep, table, results), rankings(table)
    study = Study(sweep, table, configs, found, chosen, points, name, asked, seen, ranked, results, folder)
    html = page(study)
    made = samples_frame(table)
    path, data = folder / f"{name}.html", folder / name
    try:
        data.mkdir(parents=True, exist_ok=True)
        for frame, file in (
            (table.frame, "trials.csv"),
            (configs.drop(columns="estimate", errors="ignore"), "configs.csv"),
            (effects_frame(found), "effects.csv"),
            (points, "curves.csv"),
            *([(search_frame(asked), "search.csv")] if asked else []),
            *([(made, "samples.csv")] if len(made) else []),
            *([(inside_frame(seen), "inside.csv")] if seen else []),
            *([(agreement_frame(ranked), "agreement.csv")] if ranked else []),
        ):
            write_csv(frame, data / file)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report to {folder}: {error.strerror or error}") from None
    return path


def search_frame(found: Sequence[Hunt]) -> pd.DataFrame:
    """One row per configuration of a search, in the order of asking."""
    import pandas as pd

    names = ("number", "config", "recipe", "gap", "overhead", "state", "front")
    rows = [
        {"task": hunt.task, **{name: getattr(choice, name) for name in names}, "best_so_far": best}
        for hunt in found
        for choice, best in zip(hunt.choices, hunt.best, strict=True)
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
            "gap_difference": e.gap.mean if e.gap else None,
            "gap_low": e.gap.low if e.gap else None,
            "gap_high": e.gap.high if e.gap else None,
            "seeds": e.lost.n,
            "pairs": e.pairs,
            "better": e.better,
            "worse": e.worse,
            "only_value_diverged": e.diverged,
            "only_reference_diverged": e.spared,
            "p": e.lost.p,
            "p_holm": e.p_holm,
        }
        for e in found
    ]
    return pd.DataFrame(rows)
