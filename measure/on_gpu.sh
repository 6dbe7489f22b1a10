#!/usr/bin/env bash
# Proves and measures the project on a machine with a GPU, part by part.
#
#   measure/on_gpu.sh PART...
#
#   part      minutes  what it does
#   trial           4  a second of each mode and type, and TensorFlow's switches
#   speed          12  three rounds of the mode cudnn, beside PyTorch if it is there
#   tests          12  the test suite, with the Penn Treebank's records
#   workers         2  an epoch of small by one process, and by two on one card
#   resume          6  toy models and small, killed and resumed: the same?
#   small           6  small in float32, all epochs
#   medium         30  medium in float32, all epochs; medium_tf32 with --tf32
#   large          60  large in float32, all epochs; large_tf32 with --tf32
#
# After so many minutes a part is interrupted, and the next begins. Each writes
# to a folder of its own in OUT (runs/gpu). PTB_DATA names the folder of the
# texts (simple-examples/data), PYTHON how to start Python (.venv/bin/python).
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
script=$PWD/measure/on_gpu.sh
out=${OUT:-runs/gpu}
data=${PTB_DATA:-simple-examples/data}
read -ra python <<<"${PYTHON:-.venv/bin/python}"
declare -A minutes=(
  [trial]=4 [speed]=12 [tests]=12 [workers]=2 [resume]=6 [small]=6
  [medium]=30 [medium_tf32]=30 [large]=60 [large_tf32]=60
)

main() {
  local part status=0
  for part in "${@:-no part}"; do
    [[ ${minutes[$part]-} ]] || {
      echo "on_gpu.sh: '$part' is not one of these parts:" >&2
      sed -n 's/^#   / /p' "$script" >&2
      exit 2
    }
  done
  mkdir -p "$out"
  (date -u; git describe --always --dirty; nvidia-smi -L) &>>"$out/about.txt" ||
    true # Whatever is missing says so there.
  for part; do
    mkdir -p "$out/$part"
    echo "== $part"
    timeout -s INT -k 20 "${minutes[$part]}m" "$script" --one "$part" 2>&1 |
      tee -a "$out/$part/log.txt" || {
      status=$?
      echo "== $part ended with status $status"
    }
  done
  return "$status"
}

# bench NAME FLAG...: measures, and keeps the numbers in NAME.json.
bench() {
  "${python[@]}" measure/benchmark.py --json="$here/$1.json" "${@:2}"
}

# train NAME FLAG...: trains or resumes a run in the folder NAME.
train() {
  "${python[@]}" ptb_word_lm.py --data_path="$data" --save_path="$here/$1" \
    "${@:2}"
}

trial() {
  local flags=(--rounds=1 --seconds=1 --rnn_mode=cudnn --dtype=float32)
  bench modes "${flags[@]}" --rnn_mode=block --dtype=tf32 --dtype=float16 \
    --dtype=bfloat16
  flags+=(--dtype=tf32)
  echo "A session.run that does not wait for the GPU:"
  TF_SYNC_ON_FINISH=0 bench no_wait "${flags[@]}"
  echo "What XLA can compile, compiled:"
  TF_XLA_FLAGS=--tf_xla_auto_jit=2 bench xla "${flags[@]}" --rnn_mode=block
  echo "Deterministic:"
  TF_DETERMINISTIC_OPS=1 bench deterministic "${flags[@]}"
}

speed() {
  local peers=()
  "${python[@]}" -c "import torch" 2>/dev/null && peers=(--peers)
  bench speed --rounds=3 --seconds=2 --rnn_mode=cudnn --dtype=float32 \
    --dtype=tf32 --dtype=float16 "${peers[@]}"
}

tests() {
  PTB_DATA=$(cd -- "$data" && pwd) "${python[@]}" -m pytest -n 6 \
    ${PYTEST_DISABLE_PLUGIN_AUTOLOAD:+-p xdist}
}

workers() {
  local epoch=(--data_path="$data" --hparams=max_max_epoch=1)
  "${python[@]}" ptb_word_lm.py "${epoch[@]}"
  "${python[@]}" scripts/launch_local.py -n 2 --open_ports "${epoch[@]}"
}

resume() {
  local run=(--hparams=max_max_epoch=3 --deterministic)
  TF_DETERMINISTIC_OPS=1 "${python[@]}" measure/torture.py --kills=2 --epochs=2
  train whole "${run[@]}"
  timeout -s KILL 30 "${python[@]}" ptb_word_lm.py --data_path="$data" \
    --save_path="$here/killed" --checkpoint_minutes=0.1 "${run[@]}" || true
  compgen -G "$here/killed/model.ckpt-*" >/dev/null ||
    echo "The run was killed before its first checkpoint."
  train killed "${run[@]}"
  diff <(perplexities_of whole) <(perplexities_of killed) &&
    echo "All perplexities are the same."
}

perplexities_of() {
  grep -Eo '"[a-z_]*perplexity": [^,}]*' "$here/$1/result.json"
}

small() { train run --model=small; }
medium() { train run --model=medium; }
medium_tf32() { train run --model=medium --tf32; }
large() { train run --model=large; }
large_tf32() { train run --model=large --tf32; }

if [[ ${1-} == --one ]]; then
  here=$out/$2
  "$2"
else
  main "$@"
fi
