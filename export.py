"""Exports a trained model as a SavedModel, which needs only TensorFlow.

  python export.py --run=runs/small --export_dir=exported/small

It has two signatures. Words are strings. A text starts from states of zeros and
the word <eos>. Log-probabilities are in nats.

next_word   words string [B], the last word of each text
            state float32 [B, L, 2, H], the state before that word
         -> log_probs float32 [B, V], of the next word; column i is for the word
            in line i of assets/vocabulary.txt, counted from 0
            state, the state after the last word
score       words string [B, T], sentences, padded with any words
            lengths int32 [B], the number of words of each sentence
         -> log_probs float32 [B, T + 1], of each word and then of <eos>; 0 in
            the padding
            log_prob float32 [B], of the sentence with its <eos>
            perplexity float32 [B]

B = sentences, T = words, H = hidden_size, L = num_layers, V = vocab_size. If
several runs are averaged, each has a state: state_0, state_1, ...
"""

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import dataclasses
import json
import os
import sys
import tempfile

import language_model
from lm.base import command, device, files, tf1
from lm.text import preparation
from lm.text.word_ids import EOS


def define_flags(define):
  """Defines the command line's flags."""
  language_model.define_flags(define)
  define.path("export_dir", None, "The folder to create; it must not exist.")


@command.entry_point("export.py", define_flags)
def main(args):
  """Exports as the flags say; returns the exit status."""
  files.check_new_folder(args.export_dir, "--export_dir")
  models = language_model.find(
    args.run, args.checkpoint, args.data_path, args.hparams, args.weights
  )
  with files.new_folder(args.export_dir, "--export_dir") as folder:
    names = export(models, folder)
  print(f"Wrote {args.export_dir} with the signatures {' and '.join(names)}.")
  return 0


def export(models, folder):
  """Writes models as one SavedModel.

  Args:
    models: a list of trained.Trained.
    folder: the path of an empty folder.

  Returns:
    The names of the signatures. Without <eos> in the vocabulary, "score" is not
    among them.

  Raises:
    InputError: if a model is damaged.
    OSError: if the SavedModel cannot be written.
  """
  vocabulary = models[0].vocabulary
  with (
    tempfile.TemporaryDirectory() as assets,
    tf1.Graph().as_default(),
    device.session() as session,
  ):
    tf1.set_random_seed(1)  # Nothing is drawn; TF_DETERMINISTIC_OPS wants it.
    ids_of = _add_vocabulary(vocabulary, models[0].unknown, assets)
    signatures = {"next_word": _next_word(models, ids_of)}
    if EOS in vocabulary:
      signatures["score"] = _score(models, ids_of, vocabulary.index(EOS))
    if models[0].preparation is not None:
      choices = {"preparation": dataclasses.asdict(models[0].preparation)}
      path = os.path.join(assets, preparation.FILE_NAME)
      files.write_file(path, json.dumps(choices, indent=2) + "\n")
      tf1.add_to_collection(tf1.GraphKeys.ASSET_FILEPATHS, tf1.constant(path))
    language_model.restore(models, session)
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
      raise command.InputError(
        f"Cannot write the model: {command.reason_of(error)}"
      ) from None
  return list(signatures)


def _add_vocabulary(vocabulary, unknown, folder):
  """Adds the vocabulary as an asset; returns a function from words to ids."""
  path = os.path.join(folder, "vocabulary.txt")
  files.write_file(path, "".join(f"{word}\n" for word in vocabulary))
  index = tf1.lookup.TextFileIndex
  initializer = tf1.lookup.TextFileInitializer(
    path, tf1.string, index.WHOLE_LINE, tf1.int64, index.LINE_NUMBER
  )
  default = vocabulary.index(unknown) if unknown in vocabulary else -1
  table = tf1.lookup.StaticHashTable(initializer, default)
  message = f"A word is unknown, and vocabulary.txt has no {unknown}."

  def ids_of(words):
    ids = tf1.cast(table.lookup(words), tf1.int32)
    are_known = tf1.debugging.assert_non_negative(ids, message=message)
    with tf1.control_dependencies([are_known]):
      return tf1.identity(ids)

  return ids_of


def _next_word(models, ids_of):
  """Adds the prediction of a word; returns its signature."""
  words = tf1.placeholder(tf1.string, [None], "words")  # [B]
  zeros = language_model.zero_states(models, tf1.size(words))
  names = [f"state_{number}" for number in range(len(models))]
  if len(models) == 1:
    names = ["state"]
  states = [
    tf1.placeholder(tf1.float32, [None, *zero.shape.as_list()[1:]], name)
    for zero, name in zip(zeros, names, strict=True)
  ]
  ids = ids_of(words)[:, tf1.newaxis]  # [B, 1]
  heads, new_states = language_model.add_models(
    models, ids, tf1.ones_like(words, tf1.int32), states
  )
  log_probs = language_model.log_probs_of(heads)  # [B, V]
  return tf1.saved_model.predict_signature_def(
    {"words": words, **dict(zip(names, states, strict=True))},
    {"log_probs": log_probs, **dict(zip(names, new_states, strict=True))},
  )


def _score(models, ids_of, eos):
  """Adds the scoring of sentences; returns its signature."""
  words = tf1.placeholder(tf1.string, [None, None], "sentences")  # [B, T]
  lengths = tf1.placeholder(tf1.int32, [None], "lengths")  # [B]
  batch_size, width = tf1.shape(words)[0], tf1.shape(words)[1]
  fits = tf1.debugging.assert_less_equal(
    lengths, width, message="A length is larger than the number of words."
  )
  with tf1.control_dependencies([fits]):
    is_word = tf1.sequence_mask(lengths, width)  # [B, T]
  # The padding is read as <eos>, which is known, and does not count.
  ids = ids_of(tf1.where_v2(is_word, words, EOS))  # [B, T]
  ends = tf1.fill([batch_size, 1], eos)  # [B, 1]
  heads, _ = language_model.add_models(
    models,
    tf1.concat([ends, ids], axis=1),
    lengths + 1,
    language_model.zero_states(models, batch_size),
  )
  targets = tf1.concat([ids, ends], axis=1)  # [B, T + 1]
  log_probs, _ = language_model.scores_of(heads, targets)  # [B, T + 1]
  is_scored = tf1.sequence_mask(lengths + 1, width + 1)  # [B, T + 1]
  log_probs = tf1.where_v2(is_scored, log_probs, 0.0)
  log_prob = tf1.reduce_sum(log_probs, axis=1)  # [B]
  perplexity = tf1.exp(-log_prob / tf1.cast(lengths + 1, tf1.float32))  # [B]
  return tf1.saved_model.predict_signature_def(
    {"words": words, "lengths": lengths},
    {"log_probs": log_probs, "log_prob": log_prob, "perplexity": perplexity},
  )


if __name__ == "__main__":
  sys.exit(main())
