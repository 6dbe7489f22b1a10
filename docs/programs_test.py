"""Tests of the modules as a library, by short forms of public programs.

Programs that change what holds for a whole process run in one of their own.
"""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import configs
from conftest import OLD_RUN, TINY
from lm.base import tf1

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What most of the programs begin with.
TF1 = """
  import tensorflow.compat.v1 as tf
"""
MODELS = """
  import numpy as np
  import configs, ptb_word_lm, reader
  from ptb_word_lm import PTBInput, PTBModel, run_epoch

  class Config(configs.TestConfig):
    hidden_size = 5
    vocab_size = 20
    batch_size = 4
    num_steps = 3

  DATA = np.arange(200) % 20

  def build(is_training=True, scope="Model", reuse=None, config=Config()):
    init = tf.random_uniform_initializer(-0.5, 0.5, seed=1)
    with tf.variable_scope(scope, reuse=reuse, initializer=init):
      return PTBModel(is_training, config, PTBInput(config, DATA))
"""


def run_program(*parts, folder, argv=()):
  """Runs the parts of a program together; returns what it prints."""
  program = "\n".join(textwrap.dedent(part) for part in parts)
  result = subprocess.run(
    [sys.executable, "-c", program, *map(str, argv)],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def run_here(*parts, in_graph=False):
  """Like run_program, but in this process; maybe in a graph of its own."""
  program = "\n".join(textwrap.dedent(part) for part in parts)
  graph = tf1.Graph().as_default() if in_graph else contextlib.nullcontext()
  out = io.StringIO()
  with graph, contextlib.redirect_stdout(out):
    exec(program, {"__name__": "program"})
  return out.getvalue()


@pytest.mark.parametrize(
  "behavior",
  [
    "disable_v2_behavior",
    "disable_resource_variables",
  ],
)
def test_the_tutorials_programs(tmp_path, behavior):
  """Its loop; and its main, where a Supervisor's thread writes summaries."""
  loop = """
    with tf.Graph().as_default():
      model, valid = build(), build(False, reuse=True)
      model.logits
      with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for epoch in range(3):
          model.assign_lr(session, 1.0)
          # The usual reset of tf.metrics.
          session.run(tf.local_variables_initializer())
          print(run_epoch(session, model, model.train_op))
        state = session.run(valid.initial_state)
        feed = {}
        for (c, h), value in zip(valid.initial_state, state):
          feed[c], feed[h] = value
        state, loss = session.run([valid.final_state, valid.cost], feed)
        print(state[0].h.shape)
        print(tf.train.Saver().save(session, "model.ckpt"))
  """
  main = """
    with tf.Graph().as_default():
      model = build()
      tf.summary.scalar("Learning_Rate", model.lr)
      supervisor = tf.train.Supervisor(logdir="logs", save_summaries_secs=0.01)
      with supervisor.managed_session() as session:
        for _ in range(3):
          model.assign_lr(session, 1.0)
          run_epoch(session, model, model.train_op)
        step = supervisor.global_step
        supervisor.saver.save(session, "logs/model.ckpt", step)
    with tf.Graph().as_default():
      model = build()
      hooks = [tf.train.StopAtStepHook(last_step=50)]
      with tf.train.MonitoredTrainingSession(
        checkpoint_dir="logs", hooks=hooks
      ) as session:
        while not session.should_stop():
          session.run(model.train_op)
    print(tf.train.latest_checkpoint("logs"))
  """
  start = f"tf.{behavior}()\n"
  # Only this also turns eager mode off in other threads.
  has_threads = behavior == "disable_v2_behavior"
  programs = [TF1, start, MODELS, loop] + [main] * has_threads
  printed = run_program(*programs, folder=tmp_path).split("\n")
  first, _, last = map(float, printed[:3])
  assert last < first * 0.9 and printed[3:5] == ["(4, 5)", "model.ckpt"]
  assert printed[5:] == ["logs/model.ckpt-50", ""] or not has_threads


def test_configs_of_the_tutorial(monkeypatch):
  # The program sets it; here it is set back afterwards.
  batch_size = configs.LargeConfig.batch_size
  monkeypatch.setattr(configs.LargeConfig, "batch_size", batch_size)
  program = """
    from ptb_word_lm import SmallConfig, MediumConfig, LargeConfig, TestConfig
    from ptb_word_lm import get_config

    class Plain:
      init_scale = 0.1
      learning_rate = 1.0
      max_grad_norm = 5
      num_layers = 1
      num_steps = 3
      hidden_size = np.int64(6)
      max_epoch = 1
      max_max_epoch = 1
      keep_prob = np.float32(0.5)
      lr_decay = 0.5
      batch_size = 4
      vocab_size = 20
      my_own = "attribute"

    class Mine(SmallConfig):
      hidden_size: int = 50

    print(Mine().hidden_size, get_config().hidden_size)
    LargeConfig.batch_size = 1
    eval_config = get_config("large")
    print(eval_config.batch_size)
    eval_config.batch_size = 2
    print(eval_config.batch_size, LargeConfig().batch_size)
    for config in (Plain, Plain()):
      with tf.Graph().as_default():
        print(build(config=config).final_state[0].h.shape)
    for name, value in (("hiden_size", 3), ("hidden_size", 0)):
      try:
        setattr(eval_config, name, value)
      except ValueError as error:
        print(error)
    try:
      del Plain.lr_decay
      with tf.Graph().as_default():
        build(config=Plain)
    except ValueError as error:
      print(error)
  """
  lines = run_here(TF1, MODELS, program).splitlines()
  assert lines[:5] == ["50 200", "1", "2 1", "(4, 6)", "(4, 6)"]
  assert lines[5].startswith("hiden_size is not a hyper-parameter. The hyper-p")
  assert lines[6:] == [
    "hidden_size must be a whole number from 1 to 1,000,000, not 0.",
    "Plain has no lr_decay: set it.",
  ]


def test_adam_resumes_exactly(tmp_path, monkeypatch):
  """And so does no other optimizer."""
  monkeypatch.chdir(tmp_path)
  program = f"""
    import configs, ptb_word_lm, reader
    from lm.base import tf1
    from lm.run import run_folder
    from lm.run.run import Run

    class Adam(ptb_word_lm.PTBModel):
      def optimizer(self, learning_rate):
        return tf1.train.AdamOptimizer(learning_rate)

    class StopAfter:
      signum = 15
      def __init__(self, steps):
        self.steps = steps
      def __bool__(self):
        self.steps -= 1
        return self.steps < 0

    corpus = reader.read_corpus({str(TINY)!r})

    class Config(configs.TestConfig):
      def __init__(self):
        super().__init__()
        self.vocab_size = len(corpus.vocabulary)
        self.hidden_size, self.num_steps, self.learning_rate = 8, 5, 0.01
        self.keep_prob, self.max_max_epoch = 0.8, 2

    config = Config()
    run = Run.on_corpus(
      corpus, model="test", seed=1, dtype="float32", config=config
    )

    def train(path, stop=False, model_class=Adam):
      with run_folder.RunFolder(path) as folder:
        folder.claim(run, corpus.vocabulary)
        return ptb_word_lm.train(
          run, corpus, folder, stop=stop, model_class=model_class
        )

    planned = train("planned")
    assert train("stopped", StopAfter(150)) is None
    try:
      train("stopped", model_class=ptb_word_lm.PTBModel)
    except ValueError as error:
      print(error)
    resumed = train("stopped")
    for name in ("train_perplexity", "valid_perplexity", "test_perplexity"):
      assert planned[name] == resumed[name], name
    print(planned["valid_perplexity"] < 45)  # Chance: 50.
  """
  lines = run_here(program).splitlines()
  assert lines[-1] == "True"
  assert any(line.startswith("No checkpoint in ") for line in lines)


def test_sizes_of_the_input_count():
  """As in the tutorial, whose eval_input had a batch_size of 1."""
  program = """
    perplexities = []
    for batch_size, num_steps in ((4, 3), (1, 1), (2, 7)):
      sizes = Config()
      sizes.batch_size, sizes.num_steps = batch_size, num_steps
      with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        with tf.variable_scope("Model"):
          model = PTBModel(False, Config(), PTBInput(sizes, DATA))
        session.run(tf.global_variables_initializer())
        perplexities.append(run_epoch(session, model))
    print(max(perplexities) < 21.5 and min(perplexities) > 19)
    config = Config()
    config.vocab_size = 10
    try:
      with tf.Graph().as_default():
        PTBModel(False, config, PTBInput(Config(), DATA))
    except ValueError as error:
      print(error)
  """
  lines = run_here(TF1, MODELS, program).splitlines()
  assert lines[0] == "True"
  assert lines[1].startswith("vocab_size is 20 in the input's config, but 10")


def test_the_step_of_any_optimizer_is_clipped():
  program = """
    class Model(PTBModel):
      def optimizer(self, learning_rate):
        return tf.train.GradientDescentOptimizer(tf.maximum(learning_rate, 1.0))

    config = Config()
    config.max_grad_norm = 0.001
    for dtype in ("float32", "float16"):
      with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("Model"):
          input_ = PTBInput(config, DATA)
          model = Model(True, config, input_, dtype=dtype)
        session.run(tf.global_variables_initializer())
        variables = tf.trainable_variables()
        before = session.run(variables)
        session.run(model.train_op)
        after = session.run(variables)
        squares = [((a - b) ** 2).sum() for a, b in zip(after, before)]
        print(abs(sum(squares) ** 0.5 - 0.001) < 0.0001)
  """
  printed = run_here(TF1, MODELS, program)
  assert printed.split() == ["True", "True"]


def test_another_model_in_the_same_graph():
  program = """
    x = tf.get_variable("theirs", [2])
    train = tf.train.GradientDescentOptimizer(1.0).minimize(x[0] ** 2)
    first, second = build(scope="A"), build(scope="B")
    with tf.Session() as session:
      session.run(tf.global_variables_initializer())
      before = session.run(x)
      first.assign_lr(session, 1.0)
      second.assign_lr(session, 0.0)
      weights = [v for v in tf.trainable_variables() if v.name[:2] == "B/"]
      old = session.run(weights)
      run_epoch(session, first, first.train_op)
      assert all(map(np.array_equal, old, session.run(weights)))
      assert np.array_equal(before, session.run(x))
      print(len(first.gradients), len(tf.trainable_variables()))
  """
  lines = run_here(TF1, MODELS, program, in_graph=True)
  assert lines.split() == ["5", "11"]


def test_a_model_of_their_own_in_run_epoch():
  program = """
    import types

    class Model:
      pass

    model = Model()
    model.input = types.SimpleNamespace(epoch_size=4, num_steps=5)
    c, h = (tf.placeholder_with_default(tf.zeros([2, 3]), [2, 3]) for _ in "ch")
    model.initial_state = ((c, h),)
    model.final_state = ((c + 1, h + 2),)
    model.cost = 5 * tf.reduce_mean(c)
    with tf.Session() as session:
      print(run_epoch(session, model, tf.no_op()))
  """
  printed = run_here(TF1, MODELS, program, in_graph=True)
  assert float(printed) == pytest.approx(2.718281828**1.5)


def test_batches_can_be_changed_without_changing_the_corpus():
  program = """
    before = DATA.copy()
    for x, y in reader.ptb_iterator(DATA, 4, 3):
      x[:] = 0
      y[:] = 1
    assert (DATA == before).all()
    print(next(iter(reader.ptb_iterator(DATA, 4, 3)))[0][1])
  """
  printed = run_here(MODELS, program)
  assert printed.split() == ["[10", "11", "12]"]


def test_eager_mode_names_the_way():
  program = """
    for call in (
      lambda: reader.ptb_producer(DATA, 4, 3),
      lambda: PTBInput(Config(), DATA),
      build,
    ):
      try:
        call()
      except RuntimeError as error:
        print(error)
  """
  lines = run_here(TF1, MODELS, program).splitlines()
  assert len(lines) == 3
  assert all("with tf.Graph().as_default()" in line for line in lines)
  assert all("reader.ptb_iterator" in line for line in lines)


def test_ids_beyond_the_vocabulary():
  program = """
    for data in (DATA + 1, DATA - 1):
      try:
        with tf.Graph().as_default():
          PTBInput(Config(), data)
      except ValueError as error:
        print(error)
  """
  lines = run_here(TF1, MODELS, program).splitlines()
  assert [line.partition(",")[0] for line in lines] == [
    "the data has ids from 1 to 20",
    "the data has ids from -1 to 18",
  ]


def test_models_are_freed():
  program = """
    import gc, weakref

    def one(rnn_mode):
      config = Config()
      config.rnn_mode = rnn_mode
      with tf.Graph().as_default() as graph:
        build(config=config)
      return weakref.ref(graph)

    graphs = [one("block"), one("basic")]
    gc.collect()
    print([graph() for graph in graphs])
  """
  printed = run_here(TF1, MODELS, program)
  assert printed.strip() == "[None, None]"


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_keras_and_the_log_level_stay_as_they_are(tmp_path, first):
  ours = """
    import language_model
    from lm.base import tf1

    tf1.rnn_cell.BasicLSTMCell
    with tf1.Graph().as_default():
      build()
  """
  theirs = """
    import tensorflow.compat.v1 as tf
    import tensorflow as tf2
    assert tf2.keras.__version__.startswith("3.")
    model = tf2.keras.Sequential([tf2.keras.layers.Dense(2)])
    model.build([1, 3])
    model.save("model.keras")
    tf2.keras.models.load_model("model.keras")
    assert tf.logging.get_verbosity() == 30
    assert tf2.config.experimental.tensor_float_32_execution_enabled()
    try:
      tf.nn.rnn_cell.BasicLSTMCell
    except AttributeError as error:
      print(error)
  """
  start = TF1 + MODELS
  parts = [start, ours, theirs] if first == "ours" else [start, theirs, ours]
  lines = run_program(*parts, folder=tmp_path).splitlines()
  assert lines == ["`BasicLSTMCell` is not available with Keras 3."]


def test_their_cells_beside_ours(tmp_path):
  """With Keras 2 for the whole program, tf.nn.rnn_cell works as well."""
  program = """
    from lm.base.tf1 import rnn_cell

    with tf.Graph().as_default():
      build()
      for name, module in (("a", rnn_cell), ("b", tf.nn.rnn_cell)):
        cell = module.MultiRNNCell([module.BasicLSTMCell(4) for _ in range(2)])
        zeros = cell.zero_state(2, tf.float32)
        with tf.variable_scope(name):
          print(cell(tf.zeros([2, 4]), zeros)[0].shape)
  """
  start = 'import os\nos.environ["TF_USE_LEGACY_KERAS"] = "1"\n'
  printed = run_program(start, TF1, MODELS, program, folder=tmp_path)
  assert printed.splitlines() == ["(2, 4)"] * 2


def test_commands_run_twice_in_a_notebook(tmp_path):
  """As by two %run of IPython, of two commands in any order."""
  program = f"""
    import runpy, signal, sys

    sys.ps1 = "In: "  # As IPython has it.
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    text = "{TINY}/ptb.valid.txt"
    train = ["--data_path={TINY}", "--model=test", "--hparams=max_max_epoch=1"]
    for command, argv in [
      ("ptb_word_lm.py", train),
      ("score.py", ["--run={OLD_RUN}", f"--file={{text}}"]),
      ("ptb_word_lm.py", train),
    ]:
      sys.argv = [command, *argv]
      try:
        runpy.run_path("{ROOT}/" + command, run_name="__main__")
      except SystemExit as end:
        print("status", end.code)
    assert handlers == [
      signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)
    ]
    import ptb_word_lm
    print("status", ptb_word_lm.main(["--model=none"]))
    print("status", ptb_word_lm.main(["ptb_word_lm.py", "--model=none"]))
  """
  lines = run_program(program, folder=tmp_path).splitlines()
  statuses = [line for line in lines if line.startswith("status")]
  assert statuses == ["status 0"] * 3 + ["status 1"] * 2
  tests = [line for line in lines if line.startswith("Test Perplexity")]
  assert len(tests) == 2 and tests[0] == tests[1]


def test_a_frozen_graph():
  program = """
    with tf.Graph().as_default():
      model = build(False)
      probabilities = tf.nn.softmax(model.logits, name="probabilities")
      with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        x, expected = session.run([model.input.input_data, probabilities])
        frozen = tf.graph_util.convert_variables_to_constants(
          session, tf.get_default_graph().as_graph_def(), ["probabilities"]
        )
    with tf.Graph().as_default(), tf.Session() as session:
      tf.import_graph_def(frozen, name="")
      found = session.run("probabilities:0", {model.input.input_data.name: x})
      print(np.abs(found - expected).max() < 1e-6)
  """
  printed = run_here(TF1, MODELS, program, in_graph=True)
  assert printed.strip() == "True"


def test_names_of_tensors():
  """Programs fetch them by these names, which TensorFlow 1.15 gave them."""
  program = """
    with tf.Graph().as_default(), tf.name_scope("Test"):
      input_ = PTBInput(Config(), DATA, name="TestInput")
      with tf.variable_scope("Model"):
        model = PTBModel(False, Config(), input_)
      print(input_.input_data.name, input_.targets.name)
      print([tensor.name for tensor in model.initial_state[0]])
  """
  lines = run_here(TF1, MODELS, program).splitlines()
  assert lines == [
    "Test/TestInput/StridedSlice:0 Test/TestInput/StridedSlice_1:0",
    "['Test/Model/MultiRNNCellZeroState/BasicLSTMCellZeroState/zeros:0', "
    "'Test/Model/MultiRNNCellZeroState/BasicLSTMCellZeroState/zeros_1:0']",
  ]


def test_the_tutorials_private_functions():
  program = f"""
    import reader
    path = "{TINY}/ptb.valid.txt"
    words = reader._read_words(path)
    word_to_id = reader._build_vocab("{TINY}/ptb.train.txt")
    ids = reader._file_to_word_ids(path, word_to_id)
    corpus = reader.read_corpus("{TINY}")
    assert ids == corpus.valid.tolist()
    assert list(word_to_id) == corpus.vocabulary
    assert list(word_to_id.values()) == list(range(50))
    print(words[:3], len(words) == len(ids))
    train, valid, test, size = reader.ptb_raw_data("{TINY}")
    print(size)
    try:
      reader.read_corpus("{TINY}", vocabulary=corpus.vocabulary[1:] + ["<unk>"])
    except ValueError as error:
      print(error)
  """
  lines = run_here(program).splitlines()
  assert lines[0].endswith("True") and lines[1] == "50"


def test_scores_of_impossible_ids():
  program = f"""
    import language_model
    models = language_model.find(["{OLD_RUN}"], None, None)
    with language_model.LanguageModel(models) as model:
      for ids in ([3], [], [3, None], [3, 50], [3, -1], [3, 1.5]):
        for call in (lambda: model.score_lines([ids])), (
          lambda: model.score_stream(ids)
        ):
          try:
            call()
          except ValueError as error:
            print(error)
  """
  lines = run_here(program).splitlines()
  assert len(lines) == 11  # One id is a stream, though not a line.
  assert lines[0].startswith("A text to score must have at least 2 ids")
  assert sum("whole numbers from 0 to 49" in line for line in lines) == 8
