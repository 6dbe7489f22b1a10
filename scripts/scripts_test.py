"""Tests of the shell scripts, in a project of their own."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from download_ptb_test import HASHES, NOWHERE, place

ROOT = pathlib.Path(__file__).parent.parent
STUB_PYTHON = """#!/usr/bin/env bash
# A Python whose venv is this stub, and whose pip prints what it is asked for.
case "${1-} ${2-}" in
  "-m venv")
    rm -rf "${@: -1}"
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    ;;
  "-m pip") echo "pip: ${*: -1}" && exit "${PIP_STATUS-0}" ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
STUBS = {
  "requirements.txt": "",
  "requirements-dev.txt": "-r requirements.txt\n",
  "ptb_word_lm.py": """
import os, sys
print("trains", *sys.argv[1:], os.getcwd())
""",
  "scripts/make_sample_corpus.py": """
import os, sys
print("makes", *sys.argv[1:])
os.mkdir(sys.argv[1])
for part in ("train", "valid", "test"):
  with open(f"{sys.argv[1]}/ptb.{part}.txt", "w") as file:
    file.write("a word")
""",
}


class Project:
  """A copy of the scripts in a folder with a space, and a stub of Python."""

  def __init__(self, root):
    self.root, self.bin = root, root.parent / "bin"
    for folder in ("scripts", "lm"):
      ignore = shutil.ignore_patterns("testdata", "__pycache__")
      shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for name, text in STUBS.items():
      (root / name).write_text(text)
    self.bin.mkdir()
    for version in ("", ".13", ".12", ".11"):
      self.stub(f"python3{version}", "#!/bin/sh\nexit 1\n")
    self.stub("python3.10", STUB_PYTHON)

  def stub(self, name, text):
    (self.bin / name).write_text(text)
    (self.bin / name).chmod(0o755)

  def run(self, script, *args, cwd="/", **env):
    """Returns the exit status, the lines of stdout and the lines of stderr."""
    env |= {"PATH": f"{self.bin}:/usr/bin:/bin", "REAL_PYTHON": sys.executable}
    done = subprocess.run(
      [self.root / "scripts" / script, *args],
      cwd=cwd,
      env={"PTB_URL": NOWHERE, "PTB_GPU": "no", **env},
      capture_output=True,
      text=True,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

  def setup(self, requirements="requirements.txt", **env):
    """Returns the exit status, what pip was asked for, and stderr."""
    status, out, err = self.run("setup_venv.sh", requirements, **env)
    return status, [os.path.basename(line) for line in out], err


@pytest.fixture
def project(tmp_path):
  return Project(tmp_path / "a project")


def test_pip_runs_only_for_what_is_new(project):
  base, dev = "requirements.txt", "requirements-dev.txt"
  assert project.setup(base) == (
    0,
    [base],
    ["Making .venv and installing TensorFlow (a few minutes the first time)."],
  )
  assert project.setup(base) == (0, [], [])
  assert project.setup(dev)[:2] == (0, [dev])
  for requirements in (dev, base):
    assert project.setup(requirements) == (0, [], [])
  (project.root / base).write_text("tqdm\n")  # Both ask for it.
  for requirements in (dev, base):
    assert project.setup(requirements) == (
      0,
      [requirements],
      [f"Installing what {requirements} asks for into .venv."],
    )


def test_a_failed_install_is_repaired(project):
  status, _, err = project.setup(PIP_STATUS="1")
  assert status == 1
  assert err[-1].startswith("pip could not install requirements.txt into .venv")
  assert project.setup()[:2] == (0, ["requirements.txt"])


def test_a_broken_venv_is_rebuilt(project):
  project.setup()
  path = project.root / ".venv/bin/python"
  path.unlink()
  path.symlink_to("/nonexistent/python3.10")
  status, asked, err = project.setup()
  assert (status, asked) == (0, ["requirements.txt"])
  assert err[0].startswith("The present .venv does not work")
  assert project.setup() == (0, [], [])


def test_cuda_is_installed_where_nvidia_smi_answers(project):
  base, cuda = "requirements.txt", "pip: tensorflow[and-cuda]"
  project.stub("nvidia-smi", "#!/bin/sh\nexit 9\n")  # Without a driver.
  assert project.setup(PTB_GPU="")[:2] == (0, [base])
  project.stub("nvidia-smi", "#!/bin/sh\nexit 0\n")
  project.stub("uname", "#!/bin/sh\necho aarch64\n")
  assert project.setup(PTB_GPU="") == (0, [], [])
  project.stub("uname", "#!/bin/sh\necho x86_64\n")
  assert project.setup(PTB_GPU="no") == (0, [], [])
  status, _, err = project.setup(PTB_GPU="", PIP_STATUS="1")
  assert status == 1
  assert err[-1].endswith(
    "again. PTB_GPU=no in the environment does without CUDA."
  )
  assert project.setup(PTB_GPU="") == (
    0,
    [cuda],
    [f"Installing what {base} asks for, and CUDA, into .venv."],
  )
  for gpu in ("", "yes", "no"):  # It also does where there is no GPU.
    assert project.setup(PTB_GPU=gpu) == (0, [], [])
  assert project.setup(PTB_GPU="maybe") == (
    1,
    [],
    ["The variable PTB_GPU must be yes or no, not 'maybe'."],
  )


def test_python_is_named_or_missing(project, tmp_path):
  mine = tmp_path / "my python"
  (project.bin / "python3.10").rename(mine)
  project.stub(
    "python3.10", '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac'
  )
  status, out, err = project.run("train.sh")
  assert (status, out, len(err)) == (1, [], 1)
  assert "no Python 3.10, 3.11, 3.12 or 3.13" in err[0]
  assert "python3-venv" in err[0] and "PYTHON" in err[0]
  assert project.setup(PYTHON=str(mine))[:2] == (0, ["requirements.txt"])


def test_train_with_ptb(project, tmp_path):
  data = place(project.root)
  hashes = "".join(f"{value}  {name}\n" for name, value in HASHES.items())
  (project.root / "scripts/ptb.sha256").write_text(hashes)
  status, out, err = project.run("train.sh", "--seed", "1", cwd=tmp_path)
  assert status == 0
  assert out[1:] == [f"trains --data_path={data} --seed 1 {tmp_path}"]
  assert "is already in" in err[-1]


def test_train_without_ptb_takes_the_sample_corpus(project):
  sample = project.root / "sample-corpus"
  trains = f"trains --data_path={sample} /"
  status, out, err = project.run("train.sh")
  assert (status, out[1:]) == (0, [f"makes {sample}", trains])
  assert err[-1].endswith("its perplexities are not PTB's.")
  assert project.run("train.sh")[:2] == (0, [trains])


@pytest.mark.parametrize(
  "flags",
  [["--seed=1", "-data_path", "my corpus"], ["--help"], ["-helpfull"], ["-?"]],
)
def test_train_downloads_nothing_needlessly(project, flags):
  status, out, err = project.run("train.sh", *flags)
  assert (status, out[1:]) == (0, [f"trains {' '.join(flags)} /"])
  assert len(err) == 1


@pytest.mark.parametrize(
  ("broken", "status"), [("make_sample_corpus.py", 3), ("download_ptb.py", 130)]
)
def test_train_stops_at_the_first_failure(project, broken, status):
  (project.root / "scripts" / broken).write_text(f"raise SystemExit({status})")
  assert project.run("train.sh", PIP_STATUS="1")[0] == 1
  found, out, _ = project.run("train.sh")
  assert found == status and "trains" not in "".join(out)


def test_download_ptb_makes_the_venv(project, tmp_path):
  for args, root in (([], project.root), (["an other"], tmp_path / "an other")):
    status, _, err = project.run("download_ptb.sh", *args, cwd=tmp_path)
    assert status == 1 and f"into {root}/simple-examples/data yo" in err[-1]


def test_test_runs_pytest_in_the_project_root(project, tmp_path):
  (project.root / "a_test.py").write_text(
    "import os\ndef test_it(): assert os.path.exists('ptb_word_lm.py')\n"
  )
  args = ["-p", "no:cacheprovider", "-q", "a_test.py"]
  status, out, _ = project.run("test.sh", *args, cwd=tmp_path)
  assert status == 0 and "1 passed" in out[-1]
  assert project.run("test.sh", *args, "-k", "no_such")[0] == 5
