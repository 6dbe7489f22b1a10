#!/usr/bin/env bash
# Fetches the Penn Treebank texts into DIR/simple-examples/data.
#
#   scripts/download_ptb.sh [DIR]
#
# DIR is the project's root unless given. scripts/download_ptb.py tells more.
set -euo pipefail

scripts=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
python=$("$scripts/find_python.sh")
exec "$python" "$scripts/download_ptb.py" "$@"
