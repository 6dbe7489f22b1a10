"""What several tests share."""

import os

import pytest


@pytest.fixture
def ptb_data():
  """The folder with the Penn Treebank's texts, PTB_DATA in the environment."""
  if "PTB_DATA" not in os.environ:
    pytest.skip("PTB_DATA does not name the folder with the PTB texts")
  return os.environ["PTB_DATA"]
