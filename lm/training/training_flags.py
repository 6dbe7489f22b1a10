"""The command-line flags of ptb_word_lm.py, and which of them go together."""

import os

from absl import flags

from lm.base.command import refuse
from lm.model.rnn_modes import RNN_MODES


def define_flags(define, models):
  """Defines the flags; `models` are the possible values of --model."""
  flags.disclaim_key_flags()  # So the --help of the command lists them.
  string, boolean, path = define.string, define.boolean, define.path
  path("data_path", None, "The folder with the ptb.*.txt files.")
  help_text = "The hyper-parameters to use; test ends soon and learns little."
  define.enum("model", "small", models, help_text)
  help_text = "Hyper-parameters to change, such as "
  help_text += "max_max_epoch=1,keep_prob=0.5."
  define.multi_string("hparams", [], help_text)
  string(
    "unknown_word",
    None,
    "The word in the texts that stands for unknown words. (default: <unk>)",
  )
  help_text = "The largest size of the vocabulary, including <eos> and "
  help_text += "--unknown_word; rarer words of the training text are read as "
  help_text += "--unknown_word. (default: keep all)"
  define.integer("vocab_size", None, help_text, 3)
  path(
    "vocabulary",
    None,
    "A file with the words of the vocabulary, one at the start of each line. "
    "(default: the words of the training text)",
  )
  path(
    "cache_dir",
    None,
    "The folder that stores the ids of large texts for the next start; an "
    "empty value stores none. (default: .ids_cache in --data_path)",
  )
  define.enum(
    "rnn_mode",
    None,
    list(RNN_MODES),
    "How to compute the LSTM. (default: the mode of the run in --save_path; "
    "for a new run, cudnn on a GPU and block on a CPU)",
  )
  help_text = "Train in bfloat16 or float16, with weights in float32."
  boolean("use_fp16", False, help_text)
  boolean(
    "tf32",
    False,
    "On GPUs, train with matrix products in TF32, which has a mantissa of 10 "
    "bits. Evaluation uses float32.",
  )
  boolean(
    "deterministic",
    False,
    "On GPUs, use only deterministic operations, so that the same seed gives "
    "the same bits. (CPUs always do.)",
  )
  define.integer(
    "seed", 1, "The seed of initial weights and dropout masks.", 0, 2**31 - 1
  )
  path(
    "save_path",
    None,
    "The folder for checkpoints, TensorBoard summaries and results. A run that "
    "is already there resumes. (default: write nothing)",
  )
  path(
    "init_from",
    None,
    "Start a new run with the weights, sizes and vocabulary of this model: a "
    "run's folder (see --checkpoint), or a checkpoint's path, without .index.",
  )
  path(
    "init_data_path",
    None,
    "If --init_from is a checkpoint's path: the folder with the ptb.train.txt "
    "that the checkpoint was trained on. (default: --data_path)",
  )
  define.float(
    "checkpoint_minutes",
    10.0,
    "The number of minutes between two checkpoints within an epoch.",
  )
  boolean(
    "keep_checkpoints",
    None,
    "Keep the checkpoint of each epoch. (default: as the run in --save_path "
    "did; for a new run, keep the newest two and the best)",
  )
  define.integer(
    "num_gpus",
    None,
    "The number of GPUs to train on, each with its own worker; 0 uses the CPU.",
    0,
  )
  help_text = "The number of seconds to wait for the workers of TF_CONFIG."
  define.float("wait_for_workers", 300.0, help_text)
  for name in ("checkpoint_minutes", "wait_for_workers"):
    define.validator(  # NaN is not 0 or more either.
      name, lambda value: value >= 0, "must be 0 or more."
    )
  help_text = "Let workers exchange gradients in bfloat16."
  boolean("exchange_fp16", False, help_text)
  help_text = "Print the valid and test perplexity of a checkpoint, without "
  help_text += "training."
  boolean("evaluate", False, help_text)
  path(
    "checkpoint",
    None,
    "The checkpoint of a run to evaluate or to start from: last (the default), "
    "best (the lowest valid perplexity), or the name of a checkpoint in the "
    "run's folder. With --evaluate, it can also be a path, without .index.",
  )


def refuse_for_training(args, num_workers):
  """Raises FlagError if a flag was given that has no effect in training.

  `num_workers` is the number of workers that TF_CONFIG lists.
  """
  refuse(args, ["adapt", "adapt_steps"], "without --evaluate")
  if args.init_from is None:
    where = "in training, which resumes from the newest checkpoint"
    refuse(args, ["checkpoint"], where)
    refuse(args, ["init_data_path"], "without --init_from")
  else:
    names = ["unknown_word", "vocab_size", "vocabulary"]
    refuse(args, names, "with --init_from, whose vocabulary the run uses")
    if os.path.isdir(args.init_from):
      refuse(args, ["init_data_path"], "with a run's folder in --init_from")
    elif os.path.isfile(f"{args.init_from}.index"):
      refuse(args, ["checkpoint"], "with a checkpoint's path in --init_from")
  if args.vocabulary is not None:
    refuse(args, ["vocab_size"], "with --vocabulary")
  if args.save_path is None:
    names = ["checkpoint_minutes", "keep_checkpoints"]
    refuse(args, names, "without --save_path")
  if num_workers < 2:
    names = ["wait_for_workers", "exchange_fp16"]
    refuse(args, names, "with a single worker")


def refuse_for_evaluation(args):
  """Raises FlagError if a flag was given that has no effect in evaluation."""
  for_training = ["seed", "use_fp16", "tf32", "deterministic", "init_from"]
  for_training += ["init_data_path", "checkpoint_minutes", "vocabulary"]
  for_training += ["keep_checkpoints"]
  for_training += ["wait_for_workers", "exchange_fp16"]
  for_training += ["num_gpus"] * bool(args.num_gpus)
  refuse(args, for_training, "with --evaluate")
  if args.adapt is None:
    refuse(args, ["adapt_steps"], "without --adapt")
  else:
    refuse(args, ["rnn_mode"], "with --adapt")
  if args.save_path is not None:
    names = ["model", "rnn_mode", "unknown_word", "vocab_size"]
    refuse(args, names, "with --evaluate and --save_path")
