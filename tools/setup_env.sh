#!/usr/bin/env bash
# Creates or updates the virtual environment with pip: this project (editable), its dependencies, and the extras named.
#
#   tools/setup_env.sh [EXTRA]...        e.g. tools/setup_env.sh test
#
# VENV    where the environment lives (.venv)
# PYTHON  interpreter to create it with (the first of python3, python3.14 ... python3.11 that is at least 3.11)
# TORCH   auto | cpu | cuda (auto): PyTorch's CUDA build takes 5 GB more than the CPU build, so on Linux `auto` takes it
#         only where nvidia-smi lists a GPU. `cuda` means: whatever pip's index offers by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=${VENV:-.venv}
readonly cpu_index=https://download.pytorch.org/whl/cpu
install=("$venv/bin/python" -m pip install --no-compile) # compile_all does it, on all cores
[ -t 1 ] || install+=(-q)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  die "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3"
}

torch_kind() {
  case "${TORCH:-auto}" in
    cpu | cuda) echo "$TORCH" ;;
    auto) if nvidia-smi -L >/dev/null 2>&1; then echo cuda; else echo cpu; fi ;;
    *) die "TORCH is auto, cpu or cuda, not '$TORCH'" ;;
  esac
}

installed_torch() { "$venv/bin/python" -c 'from importlib.metadata import version as v; print(v("torch"))' 2>/dev/null || true; }

# The label +cpu makes sure that no index can answer with a CUDA build. First from PyTorch's own index (and pip's configured
# links), given up at once where it cannot be reached; then from wherever pip is configured to look.
install_cpu_torch() {
  local wanted try
  wanted=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' constraints/cpu.txt)+cpu
  [ "$(installed_torch)" != "$wanted" ] || return 0
  try=("${install[@]}" --no-deps "torch==$wanted")
  "${try[@]}" --index-url "$cpu_index" --retries 0 --timeout 10 2>/dev/null && return
  "${try[@]}" && return
  die "no CPU build of PyTorch ($wanted): neither $cpu_index nor pip's own sources have it for this machine.
       Put the wheel into a folder and name it with PIP_FIND_LINKS=folder, or accept the large default build with TORCH=cuda."
}

# Workers that import without .pyc files start two to three times slower. pip compiles on one core, tests included: 80 s against
# 30. A few files are written for later Pythons and cannot be compiled; nothing imports them.
compile_all() {
  local site
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$venv/bin/python" -m compileall -qq -j 0 -x '/tests?/|/ray/rllib/' "$site" || true
}

kind=$(torch_kind)
extras=("$@")
constraints=constraints/cpu.txt
[ "$kind" = cuda ] || extras+=(cpu)
if [ "$kind" = cuda ]; then
  constraints=constraints/tested.txt
  extras+=(gpu)
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  say "creating $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv" || die "could not create $venv (on Debian and Ubuntu: apt install python3-venv)"
fi

say "installing into $venv (PyTorch: $kind build); a first time takes 2 to 5 minutes and 2.5 GB on a CPU machine"
if [ "$(uname -s)" = Linux ]; then
  if [ "$kind" = cpu ]; then
    install_cpu_torch
  elif [[ "$(installed_torch)" == *+cpu ]]; then
    "$venv/bin/python" -m pip uninstall -q -y torch
  fi
fi
list=$(IFS=,; echo "${extras[*]-}")
"${install[@]}" -c "$constraints" -e ".${list:+[$list]}"
compile_all
