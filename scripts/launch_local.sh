#!/usr/bin/env bash
# Trains with several workers on this machine.
#
#   scripts/launch_local.sh -n N [--max_restarts=N] [--open_ports] [FLAG...]
#
# Makes .venv and starts ptb_word_lm.py N times, with the flags; see
# launch_local.py.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh launch_local.sh".
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup_venv.sh" requirements.txt
exec "$root/.venv/bin/python" "$root/scripts/launch_local.py" "$@"
