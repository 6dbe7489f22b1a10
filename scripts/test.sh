#!/usr/bin/env bash
# Makes .venv if it does not exist, and runs the tests.
#
#   scripts/test.sh [PYTEST_FLAG...]
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh test.sh".
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/setup_venv.sh requirements-dev.txt
exec .venv/bin/python -m pytest "$@"
