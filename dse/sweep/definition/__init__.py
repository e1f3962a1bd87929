"""The parts of a sweep file, checked: tasks, recipes, axes, baselines, searches."""
