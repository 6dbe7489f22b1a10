#!/usr/bin/env bash
# Trains the models of README's table of results again, in the same way.
#
#   measure/reproduce.sh small|medium|large|ensemble
#
# On the same processor and TensorFlow, a seed gives the same numbers to the
# last digit. On others it gives numbers like those of another seed: in all runs
# of this project, small's test perplexity was between 112.8 and 115.8.
#
#   what       flags                              epochs   hours  valid   test
#   small      --model=small --seed=1               13      0.5   119.3  115.2
#   medium     --model=medium --use_fp16 --seed=1   39      4.3    87.2   83.8
#   large      --model=large --use_fp16 --seed=1    55     17.7    82.7   78.5
#   ensemble   small, seeds 1 to 5                  65      2.4   119.2  115.0
#              averaged probabilities of seeds 1 and 2             99.9   96.5
#              averaged probabilities of all five                  87.6   84.7
#
# The hours were measured on 2 cores of an AMD EPYC with AVX512-BF16; only
# ensemble's include scoring afterwards. With AVX2 alone, small takes 0.6 hours,
# and medium and large are faster without --use_fp16: 6.4 and 38 hours. On a GPU
# they train without it.
#
# The data is downloaded, unless PTB_DATA names its folder. Ctrl-C and SIGTERM
# stop the training in order; the same command resumes it. Each run has its
# folder in runs/reproduced, with log.txt and about.txt beside what --save_path
# keeps. At the end the tables of the results are printed.
set -euo pipefail
set -m # A job gets its own process group, and Ctrl-C only this script.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
folder="$root/runs/reproduced"
data=${PTB_DATA:-$root/simple-examples/data}

main() {
  if [[ ! $* =~ ^(small|medium|large|ensemble)$ ]]; then
    echo "Usage: measure/reproduce.sh small|medium|large|ensemble" >&2
    exit 2
  fi
  "$root/scripts/setup_venv.sh" requirements-dev.txt
  [[ ${PTB_DATA-} ]] || "$root/scripts/download_ptb.sh" "$root"
  (cd -- "$data" && sha256sum --check --quiet "$root/scripts/ptb.sha256" >&2) || {
    echo "reproduce.sh: $data does not have the Penn Treebank's texts." \
      "Let PTB_DATA name another folder, or unset it to download them." >&2
    exit 1
  }
  case $1 in
    small) train small 1 ;;
    ensemble)
      for seed in 1 2 3 4 5; do train small $seed; done
      for part in valid test; do average 2 && average 5; done
      ;;
    *)
      half=--use_fp16
      if [[ -f $folder/$1/seed1/config.json ]]; then # It keeps its type.
        grep -q '"dtype": "b*float16"' "$folder/$1/seed1/config.json" || half=''
      elif timeout 20 nvidia-smi &>/dev/null; then
        half=''
      fi
      # shellcheck disable=SC2086
      train "$1" 1 $half
      ;;
  esac
  "$python" "$root/measure/report.py" "$folder"
}

# train MODEL SEED [FLAG]: trains or resumes a run, then scores what it learned.
train() {
  local run="$folder/$1/seed$2" part
  mkdir -p "$run"
  trap 'rm -f -- "$folder"/*/*.part "$folder"/*/*/*.part' EXIT
  [[ -f $run/result.json ]] || learn "--model=$1" "${@:3}" "--seed=$2"
  keep "$run/best.txt" "$python" "$root/ptb_word_lm.py" --evaluate \
    --data_path="$data" --save_path="$run" --checkpoint=best
  for part in valid test; do
    keep "$run/$part.json" dissect $part
  done
}

# learn FLAG...: trains or resumes $run, and passes signals on to the training.
learn() {
  local pid signal status
  about "$@" >>"$run/about.txt"
  SECONDS=0
  "$python" "$root/ptb_word_lm.py" --data_path="$data" --save_path="$run" "$@" \
    &> >(trap '' INT TERM HUP && exec tee -ap "$run/log.txt") &
  pid=$!
  for signal in INT TERM HUP; do
    # shellcheck disable=SC2064
    trap "kill -$signal $pid" $signal
  done
  until # A signal ends `wait`, too: then it waits again.
    status=0
    wait $pid || status=$?
    ! kill -0 $pid 2>/dev/null
  do :; done
  trap - INT TERM HUP
  echo "seconds: $SECONDS" >>"$run/about.txt"
  ((status == 0)) || exit "$status"
}

# keep FILE COMMAND...: writes what it prints, unless it fails or FILE exists.
keep() {
  [[ -f $1 ]] || { "${@:2}" >"$1.part" && mv "$1.part" "$1"; }
}

dissect() {
  score "$run" "$1" --per_word | "$python" "$root/measure/dissect.py" "$run"
}

# average N: scores the averaged probabilities of the first N seeds on $part.
average() {
  keep "$folder/small/mean_of_$1_$part.json" \
    score_all "$(seq -s, -f "$folder/small/seed%g" "$1")" "$part"
}

score_all() { score "$@" | tail -1; } # Its last line is of the complete text.

score() {
  "$python" "$root/score.py" --run="$1" --carry_state --json \
    --file="$data/ptb.$2.txt" "${@:3}"
}

# about FLAG...: describes what is started, from which code, when, and on what.
about() {
  local units='avx2|avx512f|avx512_bf16|amx_bf16'
  units=$(grep -Eow "$units" /proc/cpuinfo | sort -u | xargs || true)
  cat <<ABOUT
command: python ptb_word_lm.py --data_path=DATA --save_path=RUN $*
commit: $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
started: $(date -u '+%Y-%m-%d %H:%M') UTC
hardware: $(nproc) cores of $(lscpu | sed -n 's/^Model name: *//p') ($units), $(
    free -g | awk '/^Mem/ {print $2}') GiB
GPUs: $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | xargs)
software: $("$python" -V), $("$python" -m pip freeze |
    grep -E '^(tensorflow|tf.keras|numpy)==' | xargs)
ABOUT
}

main "$@"
