#!/usr/bin/env bash
# Trains on the Penn Treebank, the small model by default. Needs only Python.
#
#   scripts/train.sh [FLAG...]
#
# Makes .venv, downloads the data, and starts ptb_word_lm.py with the flags. If
# they include --data_path or --help, it downloads no data. If no source of the
# data answers, it trains on the sample corpus.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh train.sh".
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
data="$root/simple-examples/data"

train() {
  exec "$python" "$root/ptb_word_lm.py" "$@"
}

"$root/scripts/setup_venv.sh" requirements.txt
for flag; do
  if [[ $flag == -?(-)@(data_path?(=*)|help*|h|\?) ]]; then train "$@"; fi
done

status=0
"$python" "$root/scripts/download_ptb.py" "$root" || status=$?
if ((status > 1)); then # Ctrl-C, for example: then stop here too.
  exit "$status"
elif ((status == 1)); then
  data="$root/sample-corpus"
  echo "Without the Penn Treebank this trains on a sample corpus that the" \
    "project makes itself: its perplexities are not PTB's." >&2
  [[ -d $data ]] || "$python" "$root/scripts/make_sample_corpus.py" "$data"
fi
train --data_path="$data" "$@"
