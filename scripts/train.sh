#!/usr/bin/env bash
# Trains on the Penn Treebank, the small model by default. Needs only Python.
#
#   scripts/train.sh [FLAG...]
#
# Makes .venv, downloads the data, and starts ptb_word_lm.py with the flags. If
# they include --data_path, --help or --version, it downloads no data. If no
# source of the data answers, it trains on the sample corpus. Without
# --save_path, the run is saved in runs/MODEL; with --data_path, in
# runs/FOLDER-MODEL; on the sample corpus, in runs/sample-MODEL. The same
# command resumes it.
[ -n "${BASH_VERSION-}" ] || exec bash "$0" "$@"  # After "sh train.sh".
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
data="$root/simple-examples/data"

# Names of flags may have one dash or two, and a space in place of the "=".
model=small corpus='' has_data='' has_path='' previous=''
for flag; do
  flag=${flag/#--/-}
  case $previous in
    -model) model=$flag ;;
    -data_path) corpus=$flag ;;
  esac
  case $flag in
    -model=*) model=${flag#*=} ;;
    -data_path=*) has_data=yes corpus=${flag#*=} ;;
    -data_path) has_data=yes ;;
    -save_path* | -evaluate*) has_path=yes ;;
    -h | -\? | -help* | -version) has_data=yes has_path=yes ;;
  esac
  previous=$flag
done

# train NAME FLAG...: NAME is that of the run's folder, without --save_path.
train() {
  local run="$root/runs/$1"
  shift
  if [[ ! $has_path ]]; then
    echo "There is no --save_path, so this adds --save_path=$run." >&2
    set -- --save_path="$run" "$@"
  fi
  exec "$python" "$root/ptb_word_lm.py" "$@"
}

"$root/scripts/setup_venv.sh" requirements.txt
if [[ $has_data ]]; then
  folder=$(realpath -m -- "${corpus:-.}") # In case it is a dot.
  train "${folder##*/}-$model" "$@"
fi

status=0
"$python" "$root/scripts/download_ptb.py" "$root" || status=$?
if ((status > 1)); then # Ctrl-C, for example: then stop here too.
  exit "$status"
elif ((status == 1)); then
  data="$root/sample-corpus"
  model="sample-$model"
  echo "Without the Penn Treebank, this trains on a sample corpus that the" \
    "project generates. Its perplexities cannot be compared with PTB's." >&2
  [[ -d $data ]] || "$python" "$root/scripts/make_sample_corpus.py" "$data"
fi
train "$model" --data_path="$data" "$@"
