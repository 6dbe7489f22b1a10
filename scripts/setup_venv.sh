#!/usr/bin/env bash
# Makes .venv in the project's root and installs a requirements file into it.
#
#   scripts/setup_venv.sh [requirements.txt]
#
# What pip has installed is noted in .venv. So a second call finds nothing to
# do, and one that was interrupted is repaired. The environment variable PYTHON
# names the Python to make .venv with.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
requirements=${1-requirements.txt}
installed="$venv/$requirements.installed"
# requirements-dev.txt asks for requirements.txt too.
wanted=$(cat "$root/requirements.txt" "$root/$requirements")

fail() {
  echo "$*" >&2
  exit 1
}

# has PYTHON MODULE: TensorFlow 2.21 has packages for Python 3.10 to 3.13.
has() {
  "$1" -c "import sys, $2
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

find_python() {
  local python
  for python in ${PYTHON:+"$PYTHON"} python3 python3.{13,12,11,10}; do
    if has "$python" ensurepip; then
      echo "$python"
      return
    fi
  done
  fail "There is no Python 3.10, 3.11, 3.12 or 3.13 with the module venv on" \
    "the PATH: install one (on Debian and Ubuntu the packages python3 and" \
    "python3-venv), or name it in the environment variable PYTHON."
}

make_venv() {
  local python
  python=$(find_python)
  if [[ -e $venv ]]; then
    echo "The present .venv does not work (its Python is gone, of another" \
      "version, or the folder is incomplete): it is rebuilt." >&2
  fi
  echo "Making .venv and installing TensorFlow (a few minutes the first" \
    "time)." >&2
  "$python" -m venv --clear "$venv" ||
    fail "$python could not make $venv (its message is above): fix that and" \
      "start again."
}

is_installed() {
  cmp -s "$installed" <<<"$wanted"
}

if ! has "$venv/bin/python" pip; then
  make_venv
elif ! is_installed; then
  echo "Installing what $requirements asks for into .venv." >&2
fi
if ! is_installed; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$root/$requirements" ||
    fail "pip could not install $requirements into .venv (its message is" \
      "above): check the network and start again."
  echo "$wanted" >"$installed"
fi
