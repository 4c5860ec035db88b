"""Under torchrun, only the first process writes messages before the processes meet."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from refusion.cli import restore
from refusion.devices.rank import is_main_process

ROOT = Path(__file__).parents[2]


def launched(rank):
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}


@pytest.fixture
def process(monkeypatch):
    def set_rank(rank):
        for name, value in launched(rank).items():
            monkeypatch.setenv(name, value)

    return set_rank


def test_a_process_without_torchrun_is_the_main_one(monkeypatch):
    monkeypatch.setenv("RANK", "1")  # other programs set it, too
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert is_main_process()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_writes_about_the_search_of_folders(process, rank):
    process(rank)
    assert is_main_process() == (rank == 0)
    lines = restore._search_lines(argparse.Namespace(quiet=False, recursive=True))
    assert (lines is not None) == (rank == 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_warns_about_the_option_file(tmp_path, rank):
    values = yaml.safe_load((ROOT / "options/toy.yml").read_text(encoding="utf-8"))
    values["sampling"]["side"] = 64  # the old name of a key
    values["train"]["steps"] = "x"  # an error ends the command before the processes meet
    file = tmp_path / "old.yml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, ROOT / "train.py", "-opt", file]
    environment = os.environ | launched(rank)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ("is now called" in told.stderr) == (rank == 0), told.stderr
    assert "old.yml: train.steps: expected a whole number" in told.stderr
