"""What several tests share."""

import os
import signal

import pytest


def pytest_configure():
  """Takes SIGINT as usual, and so do the processes that tests start.

  A shell has its background jobs ignore it, as in `scripts/test.sh &`.
  """
  signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def ptb_data():
  """The folder with the Penn Treebank's texts, PTB_DATA in the environment."""
  if "PTB_DATA" not in os.environ:
    pytest.skip("PTB_DATA does not name the folder with the PTB texts")
  return os.environ["PTB_DATA"]
