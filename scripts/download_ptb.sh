#!/usr/bin/env bash
# Downloads the Penn Treebank's texts into FOLDER/simple-examples/data.
#
#   scripts/download_ptb.sh [FOLDER]
#
# Makes .venv, then starts download_ptb.py, which explains more.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh download_ptb.sh".
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup_venv.sh" requirements.txt
exec "$root/.venv/bin/python" "$root/scripts/download_ptb.py" "$@"
