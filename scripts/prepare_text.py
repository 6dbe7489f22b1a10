"""Makes a corpus for training from any plain text.

  .venv/bin/python scripts/prepare_text.py --text=book.txt --output=my-text
  .venv/bin/python ptb_word_lm.py --data_path=my-text --save_path=runs/my-text

Each line of the text is a sentence. The last lines are for testing, the lines
before them for validation. Or give three texts: --train, --valid and --test.
The vocabulary has the most frequent words of the training text; all others
become <unk>. preparation.json records the choices.

For a run that starts from another model, --min_count=0 keeps all words. If that
is a model of the Penn Treebank, --tokenize=ptb makes its words; this writes no
preparation.json.
"""

import collections
import hashlib
import itertools
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()


from lm.base import command, files
from lm.text import preparation, tokenize_ptb
from lm.text.word_ids import EOS, UNKNOWN, DataError, decode, limit_vocabulary

PARTS = ("train", "valid", "test")


def define_flags(define):
  """Defines the command line's flags."""
  string, integer, path = define.string, define.integer, define.path
  help_text = "The UTF-8 text to split into training, validation and test text."
  path("text", None, help_text)
  path("train", None, "The training text, instead of --text.")
  path("valid", None, "The validation text, instead of --text.")
  path("test", None, "The test text, instead of --text.")
  path("output", None, "The folder to create; it must not exist.")
  help_text = "The share of the lines of --text for the validation text."
  define.float("valid_share", 0.05, help_text)
  help_text = "The share of the lines of --text for the test text."
  define.float("test_share", 0.05, help_text)
  tokenize_ptb.define_flag(define)
  define.boolean("lower_case", True, "Convert letters to lower case.")
  help_text = "The word that replaces every number; if empty, numbers stay."
  string("number_word", "N", help_text)
  help_text = "Split punctuation marks off as words of their own, drop them, "
  help_text += "or keep them as they are."
  define.enum("punctuation", "split", preparation.PUNCTUATION, help_text)
  help_text = "The largest size of the vocabulary, including <unk> and <eos>; "
  help_text += "rarer words become <unk>."
  integer("vocab_size", 10_000, help_text, 3)
  help_text = "Words that occur less often than this in the training text "
  help_text += "become <unk>; 0 keeps all words of all texts, to start from "
  help_text += "another model."
  integer("min_count", 2, help_text, 0)


@command.entry_point("prepare_text.py", define_flags)
def main(args):
  """Prepares a text as the flags say; returns the exit status."""
  files.check_new_folder(args.output, "--output")
  names = ("lower_case", "number_word", "punctuation")
  if args.tokenize:
    command.refuse(args, names, f"with --tokenize={args.tokenize}")
    choices, split_line = None, tokenize_ptb.Tokenizer().split
  else:
    choices = {name: args[name].value for name in names}
    choices["version"] = preparation.VERSION
    split_line = preparation.Preparation(**choices).split
  texts, sources = read_texts(args, split_line)
  if not args.min_count:
    command.refuse(args, ["vocab_size"], "with --min_count=0")
  vocabulary = choose_words(texts, args.vocab_size, args.min_count)
  description = {
    "preparation": choices,
    "vocab_size": args.vocab_size if args.min_count else None,
    "min_count": args.min_count,
    "sources": sources,
    "lines": {part: len(lines) for part, lines in texts.items()},
  }
  with files.new_folder(args.output, "--output") as folder:
    for part, lines in texts.items():
      lines[:] = [
        [word if word in vocabulary else UNKNOWN for word in line]
        for line in lines
      ]
      text = "".join(f"{' '.join(line)}\n" for line in lines)
      files.write_file(f"{folder}/ptb.{part}.txt", text)
    if choices:
      path = f"{folder}/{preparation.FILE_NAME}"
      files.write_file(path, json.dumps(description, indent=2) + "\n")
  for part, lines in texts.items():
    words = list(itertools.chain(*lines))
    sizes = command.counted(len(lines), "line")
    sizes += f", {command.counted(len(words), 'word')}"
    unknown = f"{words.count(UNKNOWN) / len(words):.1%}"
    print(
      f"{args.output}/ptb.{part}.txt: {sizes}, {unknown} of them read as "
      f"{UNKNOWN}"
    )
  used = {EOS}.union(*texts["train"])
  print(f"Vocabulary: {command.counted(len(used), 'word')}")
  if UNKNOWN not in used and args.min_count:
    command.tell(
      f"The training text has no {UNKNOWN}, so a model with its vocabulary "
      "leaves out unknown words. A larger --min_count or a smaller "
      "--vocab_size prevents that."
    )
  return 0


def read_texts(args, split_line):
  """Reads the files that the flags name, and splits their lines into words.

  Returns:
    (texts, sources): two dictionaries. texts has the lines of each of PARTS,
    each a list of words; sources has the path and the checksum of each file by
    its flag.

  Raises:
    DataError: if the flags do not work together, or if a text has no words or
      is not UTF-8.
    OSError: if a file cannot be read.
  """
  paths = {name: args[name].value for name in ("text", *PARTS)}
  paths = {name: path for name, path in paths.items() if path}
  if tuple(paths) not in (("text",), PARTS):
    raise DataError("Use --text alone, or all of --train, --valid and --test.")
  if "text" not in paths:
    names = ["valid_share", "test_share"]
    command.refuse(args, names, "with --train, --valid and --test")
  texts, sources = {}, {}
  for name, path in paths.items():
    with files.open_text(path) as file:
      content = file.read()
    lines = map(split_line, decode(content, path).split("\n"))
    texts[name] = list(filter(None, lines))
    if not texts[name]:
      raise DataError(f"{path} has no words.")
    sha256 = hashlib.sha256(content).hexdigest()
    sources[name] = {"path": path, "sha256": sha256}
  if "text" in texts:
    texts = split(texts["text"], args.valid_share, args.test_share)
  return texts, sources


def split(lines, valid_share, test_share):
  """Returns {part: its lines}; raises DataError if a part would be empty."""
  if valid_share > 0 and test_share > 0 and valid_share + test_share < 1:
    test = len(lines) - round(len(lines) * test_share)  # Where it begins.
    valid = test - round(len(lines) * valid_share)
    parts = lines[:valid], lines[valid:test], lines[test:]
    if all(parts):
      return dict(zip(PARTS, parts, strict=True))
  raise DataError(
    f"{len(lines):,} lines cannot be split by --valid_share={valid_share} and "
    f"--test_share={test_share}: a part would be empty. Change the shares, use "
    "a text with one sentence per line, or use --train, --valid and --test."
  )


def choose_words(texts, vocab_size, min_count):
  """Returns the set of words to keep, with <eos>; all others become <unk>."""
  if not min_count:
    return {EOS}.union(*itertools.chain(*texts.values()))
  counts = collections.Counter(itertools.chain(*texts["train"]))
  frequent = {word: n for word, n in counts.items() if n >= min_count}
  return {EOS, *limit_vocabulary(frequent, vocab_size)}


if __name__ == "__main__":
  sys.exit(main())
