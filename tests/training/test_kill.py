"""A run ended by SIGKILL, wherever it is, continues to the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from training_cases import make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_to_dict

ROOT = Path(__file__).parents[2]


def start(options, runs):
    command = [sys.executable, ROOT / "train.py", "-opt", options, "--runs", runs, "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_killed_run_continues_bit_for_bit(tmp_path):
    raw = config_to_dict(
        run_config("diffusion", make_photos(tmp_path / "photos"), tmp_path / "cache")
    )
    raw["train"] |= {"steps": 400, "checkpoint_every": 20, "validate_every": 400, "log_every": 50}
    raw["data"]["workers"] = 1
    options = tmp_path / "run.yml"
    options.write_text(yaml.safe_dump(raw))
    assert start(options, tmp_path / "straight").wait() == 0
    state = tmp_path / "killed" / raw["name"] / "state.pt"
    for kill in range(3):
        process = start(options, tmp_path / "killed")
        while not state.is_file():
            time.sleep(0.02)
        time.sleep(3 + 0.37 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(options, tmp_path / "killed").wait() == 0
    files = [tmp_path / run / raw["name"] / "model.safetensors" for run in ("straight", "killed")]
    a, b = (read_checkpoint(file).tensors for file in files)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
