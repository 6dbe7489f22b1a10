#!/usr/bin/env bash
# Runs the tests in .venv, which it makes if need be.
#
#   scripts/test.sh [PYTEST_FLAG...]
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh test.sh".
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
scripts/setup_venv.sh requirements-dev.txt
exec .venv/bin/python -m pytest "$@"
