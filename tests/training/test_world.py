"""Two processes under torchrun train what one process trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_to_dict
from refusion.training.world import joined_world

ROOT = Path(__file__).parents[2]
ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def train(launch, options, runs):
    command = [*launch, ROOT / "train.py", "-opt", options, "--runs", runs, "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def curves(folder):
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        tag: [event.value for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag != "train/waiting_for_data"
    }


@pytest.fixture
def options(tmp_path):
    photos = make_photos(tmp_path / "photos", count=5)
    raw = config_to_dict(run_config("diffusion", photos, tmp_path / "cache"))
    raw["data"] |= {"batch_size": 4, "workers": 1}
    raw["train"] |= {"log_every": 1, "steps": 6, "validate_every": 3}
    path = tmp_path / "run.yml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_two_processes_give_the_curves_of_one(options, tmp_path):
    for name, launch in {"one": ONE, "two": TWO}.items():
        train(launch, options, tmp_path / name)
    one, two = (curves(tmp_path / name / "tiny_diffusion") for name in ("one", "two"))
    assert len(one["train/total"]) == 6
    assert one.keys() == two.keys()
    for tag in one:  # losses, gradient norms, learning rates, validation scores
        assert two[tag] == pytest.approx(one[tag], rel=1e-4), tag
    a, b = (
        read_checkpoint(tmp_path / name / "tiny_diffusion" / "model.safetensors")
        for name in ("one", "two")
    )
    assert a.info["scores"] == pytest.approx(b.info["scores"], rel=1e-4)
    # Lion steps by the sign of an average gradient: where that is rounding noise, signs differ.
    pairs = [(a.tensors[name], b.tensors[name]) for name in a.tensors]
    equal = torch.cat([torch.isclose(x, y, atol=1e-5).flatten() for x, y in pairs])
    assert equal.float().mean() > 0.99


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world("cpu") as (world, device):
        assert world.is_main and world.size == 1 and device.type == "cpu"
        assert world.gathered("x") == ["x"]
        values = torch.tensor([1.0, 2.0])
        assert torch.equal(world.mean(values), values)
