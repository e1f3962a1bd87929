"""A sweep from Python: five number formats on one small task, and what each of them loses.

    python examples/sweep.py

Writes ``formats.yaml``, ``results`` and ``reports/formats.html`` into the working directory. Run it again after an
interruption, or with more seeds: only what has no result yet is trained.
"""

from pathlib import Path

import polars as pl

from dse import Results, RunOptions, Store, make_sweep, run_sweep, write_report


def main() -> None:
    sweep = make_sweep(
        "formats.yaml",
        tasks=[{"regression": {"training": {"steps": 60}}}],
        recipes=["mxfp8", "mxfp4", "mxfp4_rht_sr", "nvfp4"],
        seeds=3,
    )
    run_sweep(sweep, Store("results"), RunOptions(executor="local", track=False))
    results = Results("results")
    table = (
        results.frame(sweep)
        .group_by("recipe", maintain_order=True)
        .agg(
            pl.col("metric").mean(),
            pl.col("lost").mean(),
            (pl.col("lost").std() / pl.len().sqrt()).alias("standard error"),
            pl.col("relative_time").first(),
        )
    )
    with pl.Config(tbl_rows=20, tbl_hide_dataframe_shape=True):
        print(table)
    print(write_report(sweep, results.records(sweep), Path("reports"), results.folder))


if __name__ == "__main__":
    main()
