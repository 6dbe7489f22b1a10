#!/usr/bin/env bash
# Trains the models of the tables in results/README.md again, in the same way.
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
#   ensemble   small, seeds 1 to 10                130      4.8   119.2  115.0
#              averaged probabilities of seeds 1 and 2             99.9   96.5
#              averaged probabilities of seeds 1 to 5              87.6   84.7
#              averaged probabilities of all ten                   83.6   80.6
#
# The hours were measured on 2 cores of an AMD EPYC with AVX512-BF16, those of
# ensemble with five seeds, and doubled. The mean of ten is of other runs
# (results/small_ten). With AVX2 alone, small takes 0.6 hours, and medium and
# large are faster without --use_fp16: 6.4 and 38 hours. On a GPU they train
# without it.
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
      "Set PTB_DATA to another folder, or unset it to download the texts." >&2
    exit 1
  }
  case $1 in
    small) train small 1 ;;
    ensemble)
      for seed in {1..10}; do train small "$seed"; done
      for part in valid test; do
        for number in 2 5 10; do average $number $part; done
      done
      ;;
    *)
      if timeout 20 nvidia-smi &>/dev/null; then
        train "$1" 1
      else
        train "$1" 1 --use_fp16
      fi
      ;;
  esac
  "$python" "$root/measure/report.py" "$folder"
}

# train MODEL SEED [FLAG]: trains or resumes a run; signals go to the training.
train() {
  local run="$folder/$1/seed$2" options=("--model=$1" "${@:3}" "--seed=$2")
  local pid signal status
  [[ ! -f $run/result.json ]] || return 0
  mkdir -p "$run"
  about "${options[@]}" >>"$run/about.txt"
  SECONDS=0
  "$python" "$root/ptb_word_lm.py" --data_path="$data" --save_path="$run" \
    "${options[@]}" &> >(trap '' INT TERM HUP && exec tee -ap "$run/log.txt") &
  pid=$!
  for signal in INT TERM HUP; do
    # shellcheck disable=SC2064
    trap "kill -$signal $pid" $signal
  done
  until # A signal also ends `wait`: then it waits again.
    status=0
    wait $pid || status=$?
    ! kill -0 $pid 2>/dev/null
  do :; done
  trap - INT TERM HUP
  echo "seconds: $SECONDS" >>"$run/about.txt"
  ((status == 0)) || exit "$status"
}

# average N PART: scores the averaged probabilities of the first N seeds.
average() {
  # The last line is of the complete text.
  "$python" "$root/score.py" --carry_state --json \
    --run="$(seq -s, -f "$folder/small/seed%g" "$1")" \
    --file="$data/ptb.$2.txt" | tail -1 >"$folder/small/mean_of_$1_$2.json"
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
