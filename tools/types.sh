#!/usr/bin/env bash
# mypy --strict over the package as it is installed, with the folder tasks as dse.tasks: a folder of links under build/.
#
# VENV  where the environment lives (.venv)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly tree=build/types
venv=$(cd "${VENV:-.venv}" && pwd)
rm -rf "$tree"
mkdir -p "$tree/dse"
for entry in dse/*.py dse/*/ dse/py.typed; do
  ln -s "$PWD/${entry%/}" "$tree/dse/"
done
ln -s "$PWD/tasks" "$tree/dse/tasks"
config=$PWD/pyproject.toml cache=$PWD/.mypy_cache
cd "$tree"
exec "$venv/bin/mypy" --strict --config-file "$config" --cache-dir "$cache" -p dse "$@"
