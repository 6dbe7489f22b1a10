#!/usr/bin/env bash
# Makes .venv in the project's root and installs a requirements file into it.
#
#   scripts/setup_venv.sh [requirements.txt]
#
# What pip has installed is noted in .venv. So a second call finds nothing to
# do, and one that was interrupted is repaired. The environment variable PYTHON
# names the Python to make .venv with. Where nvidia-smi answers, TensorFlow comes
# with CUDA's libraries (4 GB more); the variable PTB_GPU, yes or no, decides
# otherwise.
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

# TensorFlow's packages use GPUs on x86_64 only.
gpu=${PTB_GPU-}
if [[ -z $gpu && $(uname -m) == x86_64 ]] &&
  timeout 20 nvidia-smi &>/dev/null; then
  gpu=yes
fi
case $gpu in
  yes) cuda='tensorflow[and-cuda]' wanted+=$'\n'$cuda ;;
  no | "") cuda='' ;;
  *) fail "The variable PTB_GPU must be yes or no, not '$gpu'." ;;
esac

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
  echo "Making .venv and installing TensorFlow${cuda:+ with CUDA} (a few" \
    "minutes the first time)." >&2
  "$python" -m venv --clear "$venv" ||
    fail "$python could not make $venv (its message is above): fix that and" \
      "start again."
}

# What was installed with CUDA also does without a GPU.
is_installed() {
  local found
  found=$(cat "$installed" 2>/dev/null) &&
    [[ $found == "$wanted" || $found == "$wanted"$'\ntensorflow[and-cuda]' ]]
}

if ! has "$venv/bin/python" pip; then
  make_venv
elif ! is_installed; then
  echo "Installing what $requirements asks for${cuda:+, and CUDA,} into" \
    ".venv." >&2
fi
if ! is_installed; then
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$root/$requirements" ${cuda:+"$cuda"} ||
    fail "pip could not install $requirements into .venv (its message is" \
      "above): check the network and start again.${cuda:+ PTB_GPU=no in the}" \
      "${cuda:+environment does without CUDA.}"
  echo "$wanted" >"$installed"
fi
