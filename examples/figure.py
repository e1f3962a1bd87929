"""A figure of one's own from the results of a sweep: accuracy lost against estimated time, mean and standard deviation.

    python examples/figure.py formats.yaml results formats.png

The sweep file is the one that examples/sweep.py writes, or any other whose results are in the folder.
"""

import sys
from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

from dse import Results


def draw(sweep: str, results: str) -> Figure:
    """One panel per task: a point for each configuration, with its spread over the seeds."""
    table = Results(results).pandas(sweep)
    table = table[table["status"] == "ok"].assign(percent=lambda rows: 100 * rows["lost"])
    sns.set_theme(style="whitegrid", context="paper")
    grid = sns.FacetGrid(table, col="task", height=3.2, aspect=1.2, sharey=False)
    grid.map_dataframe(
        sns.lineplot, "relative_time", "percent", hue="config", errorbar="sd", err_style="bars", marker="o"
    )
    grid.set_axis_labels("estimated time of the GEMMs (BF16 = 1)", "improvement lost (%)")
    grid.add_legend(title="")
    return grid.figure


def main() -> None:
    sweep, results, file = sys.argv[1:]
    draw(sweep, results).savefig(file, dpi=150, bbox_inches="tight")
    print(Path(file).resolve())


if __name__ == "__main__":
    main()
