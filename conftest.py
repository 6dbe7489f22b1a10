"""What several tests share."""

import importlib
import os
import pathlib
import signal

import pytest
from absl import flags

TINY = pathlib.Path(__file__).parent / "lm" / "testdata" / "tf1_tiny"
# A checkpoint of TensorFlow 1.15, as flags.
TF1_CHECKPOINT = (f"--checkpoint={TINY}/model.ckpt-7680", f"--data_path={TINY}")


def pytest_configure():
  """Takes signals as usual, and so do the processes that tests start.

  A shell has its background jobs ignore SIGINT, as in `scripts/test.sh &`, and
  nohup SIGHUP.
  """
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def ptb_data():
  """The folder with the Penn Treebank's texts, PTB_DATA in the environment."""
  if "PTB_DATA" not in os.environ:
    pytest.skip("PTB_DATA does not name the folder with the PTB texts")
  return os.environ["PTB_DATA"]


def call_main(module, *args):
  """Runs a command in this process, which is faster; for one that ends.

  Args:
    module: its name.
    *args: what follows it on the command line.

  Returns:
    The exit status.
  """
  module = importlib.import_module(module)
  before = set(flags.FLAGS)
  module.define_flags()
  try:
    flags.FLAGS([f"{module.__name__}.py", *map(str, args)])
    return module.main([""])
  finally:
    for name in set(flags.FLAGS) - before:
      delattr(flags.FLAGS, name)


@pytest.fixture
def call_command(capfd):
  """A function: what `call_main` takes to (exit status, stdout, stderr)."""

  def call_and_capture(module, *args):
    capfd.readouterr()
    return (call_main(module, *args), *capfd.readouterr())

  return call_and_capture


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
  """A folder with two finished runs, "a" and "b", of one text.

  Their models have other sizes.
  """
  folder = tmp_path_factory.mktemp("runs")
  for name, sizes in (("a", "hidden_size=8"), ("b", "hidden_size=12")):
    hparams = f"{sizes},num_layers={1 + (name == 'a')},num_steps=5"
    assert not call_main(
      "ptb_word_lm",
      f"--data_path={TINY}",
      f"--hparams={hparams},max_max_epoch=2,init_scale=0.3",
      f"--save_path={folder / name}",
    )
  return folder
