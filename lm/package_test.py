"""Tests of the package: what modules import and what they need."""

import pathlib
import subprocess
import sys

import pytest

import lm
from conftest import TINY

ROOT = pathlib.Path(__file__).parent.parent


def modules_in(folder, pattern="*.py"):
  """Returns the paths of a folder's modules, without tests."""
  paths = [*folder.glob(pattern)]
  return [
    p for p in paths if not p.stem.endswith(("_test", "conftest", "__init__"))
  ]


def run(code, *args, cwd=ROOT):
  """Runs Python code in a new process; returns the subprocess.Popen."""
  return subprocess.run(
    [sys.executable, "-c", code, *map(str, args)],
    cwd=cwd,
    capture_output=True,
    text=True,
  )


# Each module meets none of the others, as in a process of its own.
IMPORT_EACH = """
import importlib, sys
from absl import app, flags, logging
before, defined = {*sys.modules}, {*flags.FLAGS}
for name in sys.argv[1:]:
  importlib.import_module(name)
  names = {n for n in sys.modules if n.startswith("lm.") or n in sys.argv}
  for imported in names: del sys.modules[imported]
  assert "tensorflow" not in sys.modules, name
  assert {*flags.FLAGS} == defined, name
"""


def test_modules_of_lm_import_nothing_of_the_root(tmp_path):
  """And importing one does nothing: it loads no TensorFlow, defines no flag."""
  (tmp_path / "lm").symlink_to(ROOT / "lm")
  paths = [path.relative_to(ROOT) for path in modules_in(ROOT, "lm/*/*.py")]
  names = [
    ".".join(path.with_suffix("").parts)
    for path in paths
    if "testdata" not in path.parts
  ]
  assert "lm.workers.workers" in names
  process = run(IMPORT_EACH, *names, cwd=tmp_path)
  assert (process.returncode, process.stdout + process.stderr) == (0, "")


def test_importing_a_module_of_the_root_does_nothing():
  process = run(IMPORT_EACH, *(path.stem for path in modules_in(ROOT)))
  assert (process.returncode, process.stdout + process.stderr) == (0, "")


# psutil has what it needs on each system, on Linux the module resource.
AS_ON_WINDOWS = """
import signal, sys, warnings
import psutil
sys.modules.update(fcntl=None, resource=None, termios=None, pwd=None)
del signal.SIGHUP
warnings.filterwarnings("ignore", "only soft file lock is available")
import ptb_word_lm
sys.exit(ptb_word_lm.main() or ptb_word_lm.main())
"""


def test_trains_without_what_only_unix_has(tmp_path):
  args = [f"--data_path={TINY}", "--model=test", "--hparams=num_steps=5"]
  process = run(AS_ON_WINDOWS, *args, f"--save_path={tmp_path}")
  assert process.returncode == 0
  started, finished = process.stderr.splitlines()
  assert started.startswith("Training the test model")
  assert finished == f"The run in {tmp_path} is finished."
  assert process.stdout.count("Test Perplexity: ") == 2
  assert (tmp_path / "result.json").exists()


# The nine commands of README.
COMMANDS = ["ptb_word_lm.py", "score.py", "generate.py", "export.py"]
COMMANDS += [
  f"scripts/{name}.py"
  for name in ("prepare_text", "make_sample_corpus", "plot_run")
]
COMMANDS += ["scripts/download_ptb.py", "scripts/launch_local.py"]


@pytest.mark.parametrize("name", COMMANDS)
def test_without_the_packages_a_command_says_so(name):
  args = [sys.executable, "-S", ROOT / name]  # Without site-packages.
  process = subprocess.run(args, capture_output=True, text=True)
  assert (process.returncode, process.stdout) == (1, "")
  assert process.stderr.count("\n") == 1
  assert process.stderr.startswith(f"{pathlib.Path(name).name}: the package ")
  for told in (
    sys.executable,
    ".venv/bin/python",
    "scripts/setup_venv.sh",
    "3.13",
  ):
    assert told in process.stderr


def test_packages_import_only_from_those_below_them():
  """As the contract in pyproject.toml says."""
  linter = pathlib.Path(sys.executable).with_name("lint-imports")
  process = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
  assert process.returncode == 0, process.stdout


def test_the_root_has_few_entries():
  if not (ROOT / ".git").exists():
    pytest.skip("This copy of the project has no .git.")
  files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
  entries = {line.partition("/")[0] for line in files.splitlines()}
  assert len(entries) <= 29, sorted(entries)


def test_the_version_is_the_same_everywhere():
  citation = (ROOT / "CITATION.cff").read_text()
  assert f"\nversion: {lm.__version__}\n" in citation
  assert f"version = {{{lm.__version__}}}," in (ROOT / "README.md").read_text()
  changes = (ROOT / "CHANGELOG.md").read_text()
  assert f"\n## {lm.__version__}, " in changes
