"""Extras of the package: which one brings a library that an installation lacks."""

from __future__ import annotations

EXTRAS = {
    "ray": "sweep",
    "optuna": "sweep",
    "sklearn": "sweep",
    "pooch": "data",
    "requests": "data",
    "mlflow": "track",
    "pandas": "report",
    "matplotlib": "report",
    "seaborn": "report",
    "jinja2": "report",
    "safetensors": "weights",
    "submitit": "slurm",
    "transformers": "hf",
}
"""Module -> the extra of this package that installs it; what is not named here is always installed."""


def missing_extra(error: ModuleNotFoundError) -> str:
    """One line for the user about a library that is not installed; empty where it belongs to no extra.

    >>> missing_extra(ModuleNotFoundError("No module named 'ray'", name="ray"))
    "this needs ray, which is not installed; run: pip install 'fp4-dse[sweep]'"
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return ""
    return f"this needs {module}, which is not installed; run: pip install 'fp4-dse[{EXTRAS[module]}]'"


__all__ = ["EXTRAS", "missing_extra"]
