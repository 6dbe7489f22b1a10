#!/usr/bin/env bash
# Prints the first Python that TensorFlow 2.21 has packages for.
#
#   scripts/find_python.sh [PYTHON...]
#
# Without arguments: $PYTHON if it is set, then python3, python3.13 and so on.
set -euo pipefail

fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'

if (($# == 0)); then
  set -- ${PYTHON:+"$PYTHON"} python3 python3.{13,12,11,10}
fi
for python; do
  if "$python" -c "$fits" 2>/dev/null; then
    command -v -- "$python"
    exit
  fi
done
echo "There is no Python 3.10, 3.11, 3.12 or 3.13 on the PATH: install one," \
  "or name it in the environment variable PYTHON." >&2
exit 1
