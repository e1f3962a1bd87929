"""Names the packages to install: ``dse``, and the folder ``tasks`` as ``dse.tasks``. All else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["dse", "dse.*"])
    + [f"dse.{name}" for name in find_packages(include=["tasks", "tasks.*"])],
    package_dir={"dse.tasks": "tasks"},
)
