"""The sweep language: reads a YAML file and expands it to cells, one per trial."""

from dse.sweep.cells.cell import Cell, Excluded
from dse.sweep.cells.cell_count import MANY_CELLS
from dse.sweep.cells.expansion import expand, load_sweep, with_cells
from dse.sweep.cells.space import Assignment, Space, SuggestFn, baselines_at, cell_at
from dse.sweep.cells.sweep import Sweep
from dse.sweep.definition.axes import Axis, Dimension
from dse.sweep.definition.search import Search
from dse.sweep.json_schema import schema_json
from dse.sweep.language.labels import Label, config_of
from dse.sweep.language.ranges import Range

__all__ = [
    "MANY_CELLS",
    "Assignment",
    "Axis",
    "Cell",
    "Dimension",
    "Excluded",
    "Label",
    "Range",
    "Search",
    "Space",
    "SuggestFn",
    "Sweep",
    "baselines_at",
    "cell_at",
    "config_of",
    "expand",
    "load_sweep",
    "schema_json",
    "with_cells",
]
