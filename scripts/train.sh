#!/usr/bin/env bash
# Trains on the Penn Treebank, the small model unless told, with nothing but
# Python at hand.
#
#   scripts/train.sh [FLAG...]
#
# Makes .venv, fetches the data, and starts ptb_word_lm.py; the flags go to it,
# after those set here. Nothing is fetched if they have --data_path or --help.
# If no source of the data answers, it trains on the sample corpus.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"

needs_data() {
  local flag
  for flag; do
    case $flag in
      -data_path | --data_path | -data_path=* | --data_path=*) return 1 ;;
      -h | -\? | --\? | -help* | --help*) return 1 ;;
    esac
  done
}

make_sample_corpus() {
  local part
  for part in train valid test; do
    if [[ ! -s $1/ptb.$part.txt ]]; then
      "$python" "$root/sample_corpus.py" "$1"
      return
    fi
  done
}

train() {
  exec "$python" "$root/ptb_word_lm.py" "$@"
}

"$root/scripts/setup_venv.sh" requirements.txt
needs_data "$@" || train "$@"

data="$root/simple-examples/data"
status=0
"$root/scripts/download_ptb.sh" "$root" || status=$?
if ((status > 1)); then # Ctrl-C, say: then stop here too.
  exit "$status"
elif ((status == 1)); then
  data="$root/sample-corpus"
  echo "Without the Penn Treebank this trains on a sample corpus that the" \
    "project makes itself: its perplexities are not PTB's." >&2
  make_sample_corpus "$data"
fi
train --data_path="$data" "$@"
