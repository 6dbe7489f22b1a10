"""The command-line flags of ptb_word_lm.py.

Only its `main` reads their values.
"""

from absl import flags

from lm.rnn_modes import RNN_MODES


def define(models):
  """Defines the flags; `models` are the names that --model can have."""
  flags.disclaim_key_flags()  # They are the command's: its --help lists them.
  string, boolean = flags.DEFINE_string, flags.DEFINE_boolean
  string("data_path", None, "The folder with the ptb.*.txt files.")
  flags.DEFINE_enum("model", "small", models, "The hyper-parameters to use.")
  help_text = "Hyper-parameters to change: max_max_epoch=1,keep_prob=0.5."
  string("hparams", "", help_text)
  string(
    "unknown_word",
    None,
    "The word of the texts that stands for unknown words. (default: <unk>)",
  )
  help_text = "Keep so many of the training text's words, the most frequent; "
  help_text += "read the others as --unknown_word. (default: keep all)"
  flags.DEFINE_integer("vocab_size", None, help_text, 3)
  string(
    "cache_dir",
    None,
    "The folder in which the ids of large texts are kept for the next start; "
    "empty: none. (default: .ids_cache in --data_path, if it can be written)",
  )
  flags.DEFINE_enum(
    "rnn_mode",
    None,
    list(RNN_MODES),
    "How to compute the LSTM. (default: as the run in --save_path; for a new "
    "one cudnn on a GPU, and on a CPU basic for small, otherwise block)",
  )
  boolean("use_fp16", False, "Train in 16 bits, with weights in float32.")
  boolean(
    "tf32",
    False,
    "On GPUs, train with products in TF32, which has 10 bits of mantissa. "
    "Evaluation has float32.",
  )
  boolean(
    "deterministic",
    False,
    "On GPUs, sum in a fixed order, so that a seed gives the same bits again. "
    "(On CPUs it does so anyway.)",
  )
  flags.DEFINE_integer(
    "seed", 1, "Of the initial weights and the dropout masks.", 0, 2**31 - 1
  )
  string(
    "save_path",
    None,
    "The folder for checkpoints, TensorBoard summaries and results. If it "
    "holds the same run, that run resumes. Without it, nothing is written.",
  )
  string(
    "init_from",
    None,
    "Start a new run with the weights, sizes and vocabulary of this model: a "
    "run's folder (see --checkpoint), or a checkpoint's path, without .index.",
  )
  string(
    "init_data_path",
    None,
    "The folder with the ptb.train.txt that --init_from, if it is a "
    "checkpoint's path, was trained on. (default: --data_path)",
  )
  flags.DEFINE_float(
    "checkpoint_minutes", 10.0, "Minutes between checkpoints within an epoch."
  )
  flags.DEFINE_integer(
    "num_gpus", None, "Train with a worker on each of so many GPUs; 0: none.", 0
  )
  flags.DEFINE_float(
    "wait_for_workers", 300.0, "Seconds to wait for the workers of TF_CONFIG."
  )
  for name in ("checkpoint_minutes", "wait_for_workers"):
    flags.register_validator(  # NaN is not 0 or more either.
      name, lambda value: value >= 0, f"--{name} must be 0 or more."
    )
  boolean("exchange_fp16", False, "Let workers exchange bfloat16 gradients.")
  boolean("evaluate", False, "Print a checkpoint's perplexities, do not train.")
  string(
    "checkpoint",
    None,
    "The checkpoint to evaluate or to --init_from: last (the default), best by "
    "its valid perplexity, or another name in the run's folder; to evaluate, "
    "also a path, without .index.",
  )
