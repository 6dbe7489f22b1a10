"""Tests of the shell scripts, in a project of their own."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from download_ptb_test import HASHES, NOWHERE, place

ROOT = pathlib.Path(__file__).parent.parent
STUB_PYTHON = """#!/usr/bin/env bash
# A Python whose venv is this stub. Like the real ones, its venv refuses a link,
# and its pip prints what it collects: what is not noted as installed.
case "${1-} ${2-}" in
  "-m venv")
    [[ ! -L ${@: -1} ]] || exit 1
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    touch "${@: -1}/installed"
    ;;
  "-m pip")
    cd "$(dirname "$0")/.." # The .venv.
    missing=$(
      for argument in "${@:3}"; do
        case $argument in
          *.txt) cat "$(dirname "$argument")/requirements.txt" "$argument" ;;
          tensorflow*) echo "$argument" ;;
        esac
      done | grep -vxFf installed
    )
    [[ -z $missing ]] || echo "Collecting $missing"
    if [[ ${PIP_STATUS-} == 130 ]]; then # Ctrl-C; pip ends with 1 then.
      trap '' INT
      kill -INT 0
      exit 1
    fi
    [[ ${PIP_STATUS-0} == 0 ]] || exit "$PIP_STATUS"
    echo "$missing" >>installed
    ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
MAKES = "Creating .venv for TensorFlow: this takes a few minutes."
INSTALLS = "Installing the missing packages of requirements.txt into .venv."
STUBS = {
  "requirements.txt": "tensorflow\n",
  "requirements-dev.txt": "pytest\n",
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
      start_new_session=True,  # So Ctrl-C ends only this script.
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

  def setup(self, requirements="requirements.txt", **env):
    """Returns the exit status and the lines of stderr; stdout is empty."""
    status, out, err = self.run("setup_venv.sh", requirements, **env)
    assert out == []
    return status, err


@pytest.fixture
def project(tmp_path):
  return Project(tmp_path / "a project")


def test_what_is_missing_is_installed(project):
  base, dev = "requirements.txt", "requirements-dev.txt"
  assert project.setup(base) == (0, [MAKES, INSTALLS])
  assert project.setup(base) == (0, [])
  assert project.setup(dev) == (0, [INSTALLS.replace(base, dev)])
  for requirements in (dev, base):
    assert project.setup(requirements) == (0, [])
  (project.root / base).write_text("tqdm\n")  # Both ask for it.
  assert project.setup(dev) == (0, [INSTALLS.replace(base, dev)])
  assert project.setup(base) == (0, [])


def test_a_failed_install_is_repaired(project):
  status, err = project.setup(PIP_STATUS="1")
  assert status == 1
  assert err[-1].startswith("pip could not install requirements.txt into .venv")
  assert err[-1].endswith("check the network and the disk, and start again.")
  assert project.setup() == (0, [INSTALLS])


@pytest.mark.parametrize("script", ["setup_venv.sh", "train.sh"])
def test_ctrl_c_in_pip_is_no_failure_of_pip(project, script):
  status, _, err = project.run(script, PIP_STATUS="130")
  assert status == 130 and err in ([MAKES], [MAKES, INSTALLS])


def test_a_venv_that_does_not_work_is_left_as_it_is(project):
  project.setup()
  python = project.root / ".venv/bin/python"
  too_old = '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n'
  for text, reason in (
    (None, "no Python that starts"),
    (too_old, "has Python 3.9.2"),
  ):
    python.unlink()
    if text is None:
      python.symlink_to("/nonexistent/python3.10")
    else:
      python.write_text(text)
      python.chmod(0o755)
    before = sorted((project.root / ".venv").rglob("*"))
    status, err = project.setup()
    assert (status, len(err)) == (1, 1)
    assert reason in err[0] and " for example with mv " in err[0]
    assert sorted((project.root / ".venv").rglob("*")) == before


def test_a_folder_with_other_things_is_left_as_it_is(project):
  venv = project.root / ".venv"
  venv.mkdir()
  (venv / "pyvenv.cfg").write_text("home = C:\\Python312")
  status, err = project.setup()
  assert status == 1 and "no Python that starts" in err[0]
  moved = f"mv {project.root}/.venv".replace("a project", "a\\ project")
  assert moved in err[0]
  assert [path.name for path in venv.iterdir()] == ["pyvenv.cfg"]
  shutil.rmtree(venv)
  venv.symlink_to("nowhere")
  assert project.setup()[0] == 1 and venv.is_symlink()


def test_a_link_to_an_empty_folder_is_followed(project, tmp_path):
  folder = tmp_path / "on another disk"
  folder.mkdir()
  (project.root / ".venv").symlink_to(folder)
  assert project.setup() == (0, [MAKES, INSTALLS])
  assert project.setup() == (0, [])
  assert (folder / "bin" / "python").exists()


def test_a_venv_without_pip_gets_what_is_missing(project, tmp_path):
  """With the real venv and pip, whose settings name another place."""
  venv = project.root / ".venv"
  args = [sys.executable, "-m", "venv", "--without-pip", venv]
  subprocess.run(args, check=True)
  (venv / "mine").write_text("work")
  wheel = make_wheel(tmp_path)
  (project.root / "requirements.txt").write_text(wheel.as_uri() + "\n")
  elsewhere = str(tmp_path / "elsewhere")
  python = venv / "bin/python"
  settings = tmp_path / "pip.conf"
  settings.write_text(f"[install]\nprefix = {elsewhere}\nroot = {elsewhere}\n")
  env = {"PIP_CONFIG_FILE": str(settings), "PIP_TARGET": elsewhere}
  status, err = project.setup(**env, PIP_USER="1")
  assert (status, err) == (0, [INSTALLS])
  subprocess.run([python, "-c", "import a_module"], check=True)
  assert (venv / "mine").read_text() == "work"


def make_wheel(folder):
  """Makes a package with one empty module; returns the wheel's path."""
  path = folder / "a_module-1.0-py3-none-any.whl"
  info = "a_module-1.0.dist-info"
  with zipfile.ZipFile(path, "w") as wheel:
    wheel.writestr("a_module.py", "")
    text = "Metadata-Version: 2.1\nName: a_module\nVersion: 1.0\n"
    wheel.writestr(f"{info}/METADATA", text)
    text = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    wheel.writestr(f"{info}/WHEEL", text)
    wheel.writestr(f"{info}/RECORD", f"a_module.py,,\n{info}/RECORD,,\n")
  return path


@pytest.mark.parametrize("script", ["train.sh", "setup_venv.sh"])
def test_sh_starts_bash(project, script):
  args = ["sh", project.root / "scripts" / script]
  env = {"PATH": f"{project.bin}:/usr/bin:/bin", "REAL_PYTHON": sys.executable}
  env |= {"PTB_URL": NOWHERE, "PTB_GPU": "no"}
  done = subprocess.run(args, env=env, capture_output=True, text=True)
  assert done.returncode == 0 and "Illegal" not in done.stderr


def test_cuda_is_installed_where_nvidia_smi_answers(project):
  project.stub("nvidia-smi", "#!/bin/sh\nexit 9\n")  # Without a driver.
  assert project.setup(PTB_GPU="") == (0, [MAKES, INSTALLS])
  project.stub("nvidia-smi", "#!/bin/sh\nexit 0\n")
  project.stub("uname", "#!/bin/sh\necho aarch64\n")
  assert project.setup(PTB_GPU="") == (0, [])
  project.stub("uname", "#!/bin/sh\necho x86_64\n")
  assert project.setup(PTB_GPU="no") == (0, [])
  status, err = project.setup(PTB_GPU="", PIP_STATUS="1")
  assert status == 1
  assert err[-1].endswith(
    "again. With PTB_GPU=no in the environment, CUDA is not needed."
  )
  with_cuda = INSTALLS.replace(".txt", ".txt, and CUDA,")
  assert project.setup(PTB_GPU="") == (0, [with_cuda])
  for gpu in ("", "yes", "no"):  # It also does where there is no GPU.
    assert project.setup(PTB_GPU=gpu) == (0, [])
  refusal = "The variable PTB_GPU must be yes or no, not 'maybe'."
  assert project.setup(PTB_GPU="maybe") == (1, [refusal])


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
  assert project.setup(PYTHON=str(mine)) == (0, [MAKES, INSTALLS])


def test_train_with_ptb(project, tmp_path):
  data = place(project.root)
  hashes = "".join(f"{value}  {name}\n" for name, value in HASHES.items())
  (project.root / "scripts/ptb.sha256").write_text(hashes)
  status, out, err = project.run("train.sh", "--seed", "1", cwd=tmp_path)
  assert status == 0
  run = project.root / "runs" / "small"
  path = f"--save_path={run} --data_path={data}"
  assert out == [f"trains {path} --seed 1 {tmp_path}"]
  assert "is already in" in err[-2]
  assert err[-1] == f"There is no --save_path, so this adds --save_path={run}."


def test_train_without_ptb_takes_the_sample_corpus(project):
  sample = project.root / "sample-corpus"
  run = project.root / "runs" / "sample-small"
  trains = f"trains --save_path={run} --data_path={sample} /"
  status, out, err = project.run("train.sh")
  assert (status, out) == (0, [f"makes {sample}", trains])
  assert err[-2].endswith("perplexities cannot be compared with PTB's.")
  assert project.run("train.sh")[:2] == (0, [trains])


@pytest.mark.parametrize(
  ("flags", "run"),
  [
    ("--seed=1 -data_path my-corpus", "my-corpus-small"),
    ("--data_path=x --model=medium", "x-medium"),
    ("-data_path=/y/x/ -model large", "x-large"),
    ("--data_path=/y/.", "y-small"),
    ("--data_path=x -save_path y", None),
    ("--data_path x --evaluate --checkpoint=y", None),
    ("--help", None),
    ("-helpfull", None),
    ("--version", None),
    ("-?", None),
  ],
)
def test_train_downloads_and_keeps_what_the_flags_say(project, flags, run):
  status, out, err = project.run("train.sh", *flags.split())
  keeps = f"--save_path={project.root}/runs/{run} " if run else ""
  assert (status, out) == (0, [f"trains {keeps}{flags} /"])
  assert err[:2] == [MAKES, INSTALLS] and len(err) == 2 + bool(run)


@pytest.mark.parametrize(
  ("broken", "status"), [("make_sample_corpus.py", 3), ("download_ptb.py", 130)]
)
def test_train_stops_at_the_first_failure(project, broken, status):
  (project.root / "scripts" / broken).write_text(f"raise SystemExit({status})")
  assert project.run("train.sh", PIP_STATUS="1")[0] == 1
  exit_status, out, _ = project.run("train.sh")
  assert exit_status == status and "trains" not in "".join(out)


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
