"""Tests of memory.py."""

import os

import psutil

from lm.base import memory


def test_it_heeds_a_limit(monkeypatch):
  assert 10**8 < memory.free() < 10**14
  monkeypatch.setattr(os, "cpu_count", lambda: 2)
  for limit, expected in ((10**9, 0), (2_232_000_000, 200_000_000)):
    monkeypatch.setattr(psutil.Process, "rlimit", lambda *_, n=limit: (n, n))
    assert memory.free() == expected


def test_it_heeds_a_group(monkeypatch):
  texts = {
    "memory.max": "9000\n",
    "memory.stat": "anon 2000\nfile 6500\nkernel 10\n",
  }
  monkeypatch.setattr(memory, "_read_of_group", texts.get)
  assert memory.free() == 7000
  texts["memory.max"] = "max\n"
  assert memory.free() > 10**8
