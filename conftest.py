"""What several tests share."""

import importlib
import os
import pathlib
import shutil
import signal

import pytest

from lm.base import tf1

_TESTDATA = pathlib.Path(__file__).parent / "lm" / "testdata"
TINY = _TESTDATA / "tf1_tiny"  # A text and a checkpoint of TensorFlow 1.15.
TF1_CHECKPOINT = (f"--checkpoint={TINY}/model.ckpt-7680", f"--data_path={TINY}")
OLD_RUN = _TESTDATA / "old_run"  # A run on the same text, stopped in epoch 2.


def pytest_configure():
  """Prepares the tests and the processes that they start.

  Signals have their usual effects: a shell makes background jobs ignore SIGINT,
  as in `scripts/test.sh &`, and nohup makes a process ignore SIGHUP.
  """
  tf1.is_own_process = True
  signal.signal(signal.SIGINT, signal.default_int_handler)
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
  if shutil.which("nvidia-smi"):
    # Many tests compare bits, which repeat on GPUs only if asked to. And old
    # versions of this project would allocate the whole memory of the GPU.
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


@pytest.fixture
def ptb_data():
  """The folder with the Penn Treebank's texts: PTB_DATA in the environment."""
  if "PTB_DATA" not in os.environ:
    pytest.skip("PTB_DATA does not name the folder with the PTB texts")
  return os.environ["PTB_DATA"]


@pytest.fixture
def gpu():
  """Skips the test if TensorFlow has no GPU."""
  from lm.base import device

  if not device.has_gpu():
    pytest.skip("TensorFlow has no GPU here")


@pytest.fixture
def on_cpu(monkeypatch):
  """Lets commands train as if there were no GPU.

  Other processes do not see one. This process makes the choices of a CPU.
  """
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # For other processes.
  monkeypatch.setattr("lm.base.device.has_gpu", lambda: False)


@pytest.fixture
def cudnn(monkeypatch):
  """Lets the mode cudnn run without a GPU, by other operations."""
  from lm.base import device, tf1
  from lm.testdata import cudnn_on_cpu

  if not device.has_gpu():
    monkeypatch.setattr(tf1.raw_ops, "CudnnRNNV3", cudnn_on_cpu.lstm)


@pytest.fixture
def pretend_gpus(monkeypatch):
  """A function: lets TensorFlow list GPUs of these compute capabilities.

  The CPU computes their operations. Other processes do not see these GPUs.
  """
  from lm.base import tf1

  def details_of(capability):
    return {"compute_capability": capability, "device_name": "NVIDIA X"}

  def pretend(*capabilities):
    monkeypatch.setattr(
      tf1.config, "list_physical_devices", lambda kind=None: capabilities
    )
    monkeypatch.setattr(
      tf1.config.experimental, "get_device_details", details_of
    )

  return pretend


@pytest.fixture
def some_gpu(cudnn, pretend_gpus):
  """A GPU, or the CPU in its place."""
  from lm.base import device

  if not device.has_gpu():
    pretend_gpus((9, 0))


def call_main(module, *args):
  """Runs a command in this process, which is faster than starting another.

  Args:
    module: the name of the command's module.
    *args: its command line.

  Returns:
    The exit status.
  """
  main = importlib.import_module(module).main
  return main([f"{module}.py", *map(str, args)])


@pytest.fixture
def call_command(capfd):
  """Like `call_main`, but returns (exit status, stdout, stderr)."""

  def call_and_capture(module, *args):
    capfd.readouterr()
    return (call_main(module, *args), *capfd.readouterr())

  return call_and_capture


@pytest.fixture(scope="session")
def tf1_models():
  """What language_model.find returns for the checkpoint of TensorFlow 1.15."""
  import language_model

  return language_model.find(None, f"{TINY}/model.ckpt-7680", str(TINY))


@pytest.fixture(scope="session")
def model(tf1_models):
  """The LanguageModel of this checkpoint."""
  import language_model

  with language_model.LanguageModel(tf1_models) as model:
    yield model


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
  """A folder with two finished runs on one text, of models of different sizes.

  "a" has 2 layers of 8 units, "b" has 1 layer of 12.
  """
  folder = tmp_path_factory.mktemp("runs")
  for name, sizes in (
    ("a", "hidden_size=8,num_layers=2"),
    ("b", "hidden_size=12,num_layers=1"),
  ):
    assert not call_main(
      "ptb_word_lm",
      f"--data_path={TINY}",
      f"--hparams={sizes},num_steps=5,max_max_epoch=2,init_scale=0.3",
      f"--save_path={folder / name}",
    )
  return folder
