"""Writes a trained model as a SavedModel, which needs TensorFlow alone.

  python export.py --run=runs/small --export_dir=exported/small

It has two signatures, of words as strings. A text starts from states of zeros
and the word <eos>; log-probabilities are natural logarithms, in nats.

next_word   words string [B], the last word of each text
            state float32 [B, L, 2, H], of the words before it
         -> log_probs float32 [B, V], of the word that comes; word number i is
            line i of assets/vocabulary.txt, from 0
            state, the same with the last word
score       words string [B, T], sentences, filled up with anything
            lengths int32 [B], how many words each has
         -> log_probs float32 [B, T + 1], of each word, then of <eos>; 0 after
            that
            log_prob float32 [B], of the sentence with its <eos>
            perplexity float32 [B]

B sentences, T words, H = hidden_size, L = num_layers, V = vocab_size. Of
several runs, whose probabilities are averaged, each has a state: state_0,
state_1, ...
"""

import dataclasses
import json
import os
import tempfile

from absl import app, flags

import language_model
from lm import command, new_folder, preparation, tf1
from reader import EOS


def define_flags():
  """Defines the command line's flags."""
  language_model.define_flags()
  flags.adopt_module_key_flags(language_model)  # So that --help lists them.
  flags.DEFINE_string(
    "export_dir", None, "The folder to make; it must not exist."
  )


def main(argv):
  """Exports as the flags say; returns the exit status."""
  return command.run("export.py", argv, lambda: _main(flags.FLAGS))


def _main(args):
  """Writes the model; returns the exit status."""
  files.check_new_folder(args.export_dir, "--export_dir")
  trained = language_model.find(args.run, args.checkpoint, args.data_path)
  with files.new_folder(args.export_dir, "--export_dir") as folder:
    names = export(trained, folder)
  print(f"Wrote {args.export_dir} with the signatures {' and '.join(names)}.")
  return 0


def export(trained, folder):
  """Writes a SavedModel.

  Args:
    trained: a list of language_model.Trained.
    folder: an empty one.

  Returns:
    The names of its signatures; there is no "score" if the vocabulary has no
    <eos>.

  Raises:
    checkpoints.CheckpointError: if a checkpoint is damaged.
    OSError: if it cannot be written.
  """
  vocabulary = trained[0].vocabulary
  with (
    tempfile.TemporaryDirectory() as assets,
    tf1.Graph().as_default(),
    tf1.Session() as session,
  ):
    ids_of = _add_vocabulary(vocabulary, assets)
    signatures = {"next_word": _next_word(trained, ids_of)}
    if EOS in vocabulary:
      eos = vocabulary.index(EOS)
      signatures["score"] = _score(trained, ids_of, eos)
    _add_preparation(trained[0].preparation, assets)
    language_model.restore(trained, session)
    try:
      builder = tf1.saved_model.Builder(folder)
      builder.add_meta_graph_and_variables(
        session,
        [tf1.saved_model.tag_constants.SERVING],
        signatures,
        assets_collection=tf1.get_collection(tf1.GraphKeys.ASSET_FILEPATHS),
        main_op=tf1.tables_initializer(),
        strip_default_attrs=True,
      )
      builder.save()
    except tf1.errors.OpError as error:
      raise OSError(0, tf1.reason_of(error).rstrip(".")) from None
  return list(signatures)


def _add_vocabulary(vocabulary, folder):
  """Adds the vocabulary to the graph; returns what turns strings into ids."""
  path = os.path.join(folder, "vocabulary.txt")
  with open(path, "w", encoding="utf-8", newline="\n") as f:
    f.writelines(f"{word}\n" for word in vocabulary)
  lookup = tf1.lookup
  initializer = lookup.TextFileInitializer(
    path,
    tf1.string,
    lookup.TextFileIndex.WHOLE_LINE,
    tf1.int64,
    lookup.TextFileIndex.LINE_NUMBER,
  )
  unknown = preparation.UNKNOWN
  default = vocabulary.index(unknown) if unknown in vocabulary else -1
  table = lookup.StaticHashTable(initializer, default)

  def ids_of(words):
    ids = tf1.cast(table.lookup(words), tf1.int32)
    known = tf1.debugging.assert_non_negative(
      ids,
      message=f"A word is unknown, and vocabulary.txt has no {unknown} for it.",
    )
    with tf1.control_dependencies([known]):
      return tf1.identity(ids)

  return ids_of


def _add_preparation(choices, folder):
  """Adds preparation.json to the assets, if the text was prepared."""
  if choices is None:
    return
  path = os.path.join(folder, preparation.FILE_NAME)
  with open(path, "w", encoding="utf-8") as f:
    json.dump({"preparation": dataclasses.asdict(choices)}, f, indent=2)
    f.write("\n")
  tf1.add_to_collection(tf1.GraphKeys.ASSET_FILEPATHS, tf1.constant(path))


def _next_word(trained, ids_of):
  """Adds what predicts a word; returns its signature."""
  words = tf1.placeholder(tf1.string, [None], "words")  # [B]
  zeros = language_model.zero_states(trained, tf1.size(words))
  names = ["state"]
  if len(trained) > 1:
    names = [f"state_{number}" for number in range(len(trained))]
  states = [
    tf1.placeholder(tf1.float32, [None, *zero.shape[1:]], name)
    for zero, name in zip(zeros, names, strict=True)
  ]
  ids = ids_of(words)[:, tf1.newaxis]  # [B, 1]
  lengths = tf1.ones_like(words, tf1.int32)  # [B]
  log_probs, new_states = language_model.add_models(
    trained, ids, lengths, states
  )
  return _signature(
    {"words": words, **dict(zip(names, states, strict=True))},
    {"log_probs": log_probs[:, 0], **dict(zip(names, new_states, strict=True))},
  )


def _score(trained, ids_of, eos):
  """Adds what scores sentences; returns its signature."""
  words = tf1.placeholder(tf1.string, [None, None], "sentences")  # [B, T]
  lengths = tf1.placeholder(tf1.int32, [None], "lengths")  # [B]
  batch_size, most = tf1.shape(words)[0], tf1.shape(words)[1]
  fits = tf1.debugging.assert_less_equal(
    lengths, most, message="A length is larger than the words there are."
  )
  counts = tf1.debugging.assert_non_negative(
    lengths, message="A length is negative."
  )
  with tf1.control_dependencies([fits, counts]):
    is_word = tf1.sequence_mask(lengths, most)  # [B, T]
  # What only fills up the sentence is read as <eos>, and never counted.
  ids = ids_of(tf1.where_v2(is_word, words, EOS))  # [B, T]
  ends = tf1.fill([batch_size, 1], eos)  # [B, 1]
  log_probs, _ = language_model.add_models(
    trained,
    tf1.concat([ends, ids], axis=1),
    lengths + 1,
    language_model.zero_states(trained, batch_size),
  )  # [B, T + 1, V]
  targets = tf1.concat([ids, ends], axis=1)  # [B, T + 1]
  log_probs, _ = language_model.scores_of(log_probs, targets)
  is_scored = tf1.sequence_mask(lengths + 1, most + 1)  # [B, T + 1]
  log_probs = tf1.where_v2(is_scored, log_probs, 0.0)
  log_prob = tf1.reduce_sum(log_probs, axis=1)  # [B]
  perplexity = tf1.exp(-log_prob / tf1.cast(lengths + 1, tf1.float32))  # [B]
  return _signature(
    {"words": words, "lengths": lengths},
    {"log_probs": log_probs, "log_prob": log_prob, "perplexity": perplexity},
  )


def _signature(inputs, outputs):
  """Returns a signature; both arguments are tensors by their names."""
  infos = [
    {n: tf1.saved_model.build_tensor_info(t) for n, t in tensors.items()}
    for tensors in (inputs, outputs)
  ]
  return tf1.saved_model.build_signature_def(
    *infos, tf1.saved_model.signature_constants.PREDICT_METHOD_NAME
  )


if __name__ == "__main__":
  define_flags()
  app.run(main)
