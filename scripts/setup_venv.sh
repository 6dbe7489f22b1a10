#!/usr/bin/env bash
# Makes .venv in the project's root and installs a requirements file into it.
#
#   scripts/setup_venv.sh [requirements.txt]
#
# If .venv exists, the script installs only what is missing. So a call that was
# interrupted can be repeated, and pip may change versions of packages in .venv.
# If .venv does not work, the script reports that and leaves it as it is.
# The environment variable PYTHON names the Python that makes .venv. Where
# nvidia-smi answers, TensorFlow gets CUDA's libraries (4 GB more). To choose
# yourself, set the variable PTB_GPU to yes or no.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh setup_venv.sh".
set -euo pipefail
trap 'exit 130' INT # Without it, Ctrl-C would look like a failure of pip.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
python="$venv/bin/python"
requirements=${1-requirements.txt}

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
  yes) cuda='tensorflow[and-cuda]' ;;
  no | "") cuda='' ;;
  *) fail "The variable PTB_GPU must be yes or no, not '$gpu'." ;;
esac

# works PYTHON [MODULE]: TensorFlow 2.21 has packages for Python 3.10 to 3.13.
works() {
  "$1" -c "import sys${2:+, $2}
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

find_python() {
  local python
  for python in ${PYTHON:+"$PYTHON"} python3 python3.{13,12,11,10}; do
    if works "$python" ensurepip; then
      echo "$python"
      return
    fi
  done
  fail "There is no Python 3.10, 3.11, 3.12 or 3.13 with the module venv on" \
    "the PATH: install one (on Debian and Ubuntu the packages python3 and" \
    "python3-venv), or set the environment variable PYTHON to its path."
}

make_venv() { # make_venv FOLDER
  local python
  python=$(find_python)
  echo "Creating .venv for TensorFlow${cuda:+ with CUDA}: this takes a few" \
    "minutes." >&2
  "$python" -m venv "$1" ||
    fail "$python could not create $venv (see its message above): fix that" \
      "and start again."
}

if [[ ! -e $venv && ! -L $venv ]]; then
  make_venv "$venv"
elif [[ -d $venv && -z $(ls -A "$venv/") ]]; then # Maybe a link to a folder.
  make_venv "$(cd -- "$venv" && pwd -P)"
elif ! works "$python"; then
  version=$("$python" --version 2>/dev/null) || version="no Python that starts"
  fail "$venv does not work: it has $version, and TensorFlow 2.21 needs" \
    "Python 3.10 to 3.13. Rename it, for example with" \
    "$(printf 'mv %q %q' "$venv" "$venv.old"), and start again."
fi
if ! works "$python" pip; then # As uv makes them.
  "$python" -m ensurepip &>/dev/null ||
    { command -v uv >/dev/null &&
      uv pip install --quiet --python "$python" pip; } ||
    fail "$venv has no pip, and neither ensurepip nor uv could install it." \
      "Install pip there, or rename the folder, and start again."
fi
# The options install into .venv even if pip's settings name another place.
env -u PIP_PYTHON "$python" -m pip install --disable-pip-version-check \
  --target='' --prefix="$venv" --root=/ --no-user \
  -r "$root/$requirements" ${cuda:+"$cuda"} | {
  told=
  while read -r line; do
    if [[ -z $told && $line =~ ^(Collecting|Processing) ]]; then
      told="Installing the missing packages of $requirements"
      told+=${cuda:+", and CUDA,"}
      echo "$told into .venv." >&2
    fi
  done
} ||
  fail "pip could not install $requirements into .venv (see its message" \
    "above): check the network and the disk, and start again." \
    ${cuda:+"With PTB_GPU=no in the environment, CUDA is not needed."}
