#!/usr/bin/env bash
# Makes .venv in the project's root and installs a requirements file into it.
#
#   scripts/setup_venv.sh [requirements.txt]
#
# A copy of each requirements file that pip has installed stays in .venv. So a
# second call finds nothing to do, and one that was interrupted is repaired.
# The environment variable PYTHON names the Python to make .venv with.
set -euo pipefail

scripts=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$scripts")
venv="$root/.venv"
requirements=${1-requirements.txt}

fail() {
  echo "$*" >&2
  exit 1
}

# The file and those that it names with -r: pip installs them along with it.
required_files() {
  echo "$requirements"
  sed -n 's/^-r *//p' "$root/$requirements"
}

is_installed() {
  required_files | while read -r file; do
    cmp -s "$root/$file" "$venv/$file.installed" || exit 1
  done
}

# Importing pip fails too if the Python that .venv was made with has changed.
venv_works() {
  "$scripts/find_python.sh" "$venv/bin/python" >/dev/null 2>&1 &&
    "$venv/bin/python" -c 'import pip' 2>/dev/null
}

make_venv() {
  local python
  python=$("$scripts/find_python.sh")
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv module: install it (on Debian and Ubuntu the" \
      "package python3-venv), or name another Python in the environment" \
      "variable PYTHON."
  if [[ -e $venv ]]; then
    echo "The present .venv does not work (its Python is gone, of another" \
      "version, or the folder is incomplete): it is made anew." >&2
  fi
  echo "Making .venv and installing TensorFlow (a few minutes the first" \
    "time)." >&2
  "$python" -m venv --clear "$venv" ||
    fail "$python could not make $venv (its message is above): mend that and" \
      "start again."
}

install_requirements() {
  required_files | while read -r file; do rm -f "$venv/$file.installed"; done
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$root/$requirements" ||
    fail "pip could not install $requirements into .venv (its message is" \
      "above): check the network and start again."
  required_files | while read -r file; do
    cp "$root/$file" "$venv/$file.installed"
  done
}

if ! venv_works; then
  make_venv
  install_requirements
elif ! is_installed; then
  echo "Installing what $requirements asks for into .venv." >&2
  install_requirements
fi
