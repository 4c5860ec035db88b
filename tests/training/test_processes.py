"""Two processes under torchrun train what one process trains."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_cases import make_photos, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_to_dict
from refusion.devices.processes import join_processes

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
def options_of(tmp_path):
    photos = make_photos(tmp_path / "photos", count=5)

    def make(stage, **changes):
        raw = config_to_dict(run_config(stage, photos, tmp_path / "cache"))
        raw["data"] |= {"batch_size": 4, "workers": 1}
        raw["train"] |= {"log_every": 1, "steps": 6, "validate_every": 3}
        path = tmp_path / f"{stage}.yml"
        path.write_text(yaml.safe_dump(raw | changes))
        return path

    return make


def compare(options, stage, runs, rel):
    """Train with one process and with two; returns both checkpoints."""
    for name, launch in {"one": ONE, "two": TWO}.items():
        train(launch, options, runs / name)
    one, two = (curves(runs / name / f"tiny_{stage}") for name in ("one", "two"))
    assert len(one["train/total"]) == 6
    assert one.keys() == two.keys()
    # The U-Net's regulariser, of weight 0.001, is a statistic of a process's share of the batch.
    for tag in one.keys() - {"train/regulariser"}:  # losses, gradient norms, rates, scores
        assert two[tag] == pytest.approx(one[tag], rel=rel), tag
    files = (runs / name / f"tiny_{stage}" / "model.safetensors" for name in ("one", "two"))
    return [read_checkpoint(file) for file in files]


def test_two_processes_give_the_curves_of_one(options_of, tmp_path):
    a, b = compare(options_of("diffusion"), "diffusion", tmp_path, rel=1e-4)
    assert a.info["scores"] == pytest.approx(b.info["scores"], rel=1e-4)
    # Lion steps by the sign of an average gradient: where that is rounding noise, signs differ.
    pairs = [(a.tensors[name], b.tensors[name]) for name in a.tensors]
    equal = torch.cat([torch.isclose(x, y, atol=1e-5).flatten() for x, y in pairs])
    assert equal.float().mean() > 0.99


@pytest.mark.slow
def test_two_processes_end_together_when_the_time_is_over(options_of, tmp_path):
    options = options_of("diffusion")
    raw = yaml.safe_load(options.read_text())
    own = {"steps": None, "minutes": 0.25, "validate_every": None, "checkpoint_every": None}
    raw["train"] |= own
    options.write_text(yaml.safe_dump(raw))
    begun = time.monotonic()
    train(TWO, options, tmp_path / "two")
    assert time.monotonic() - begun < 60 * 0.25 * 1.05 + 8  # torchrun starts and ends
    folder = tmp_path / "two" / "tiny_diffusion"
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["step"] > 3
    assert state["budget"]["used_s"] < 60 * 0.25
    rates = curves(folder)["train/lr"]
    assert len(rates) == state["step"] and rates[-1] < rates[0]


@pytest.mark.slow
def test_both_stages_and_cached_latents_on_two_processes(options_of, tmp_path):
    unet, _ = compare(options_of("latent_unet"), "latent_unet", tmp_path, rel=3e-3)
    raw = yaml.safe_load(options_of("diffusion").read_text())
    latent = {
        "latent_unet": {"checkpoint": str(unet.path)},
        "network": raw["network"] | {"img_channel": 4, "wiring": "latent"},
        "data": raw["data"] | {"cached_latents": 8},
    }
    compare(options_of("diffusion", **latent), "diffusion", tmp_path / "latent", rel=1e-4)


@pytest.mark.slow
def test_adapters_of_one_network_on_two_processes(options_of, tmp_path, tiny_sd):
    """Generator and critic are switched while gradients are exchanged."""
    pytest.importorskip("peft")
    own = {"sd": str(tiny_sd), "lpips": None, "negative_prompt": "a drawing"}
    options = options_of("latent_unet")
    raw = yaml.safe_load(options.read_text())
    raw |= {"name": "tiny_osediff", "stage": "osediff", "latent_unet": None, "osediff": own}
    raw["train"]["optimizer"] |= {"type": "AdamW"}
    options.write_text(yaml.safe_dump(raw))
    for name, launch in {"one": ONE, "two": TWO}.items():
        train(launch, options, tmp_path / name)
    one, two = (curves(tmp_path / name / "tiny_osediff") for name in ("one", "two"))
    assert {"train/score", "train/critic", "train/pixels"} <= one.keys() == two.keys()
    for tag in one:
        assert two[tag] == pytest.approx(one[tag], rel=2e-3, abs=1e-5), tag


@pytest.mark.slow
def test_a_run_of_two_processes_is_continued_by_one(options_of, tmp_path):
    options = options_of("diffusion")
    raw = yaml.safe_load(options.read_text())
    raw["train"] |= {"lr_schedule": {"type": "constant"}}
    part, straight = tmp_path / "part.yml", tmp_path / "straight.yml"
    for path, steps in ((part, 4), (straight, 6)):
        raw["train"]["steps"] = steps
        path.write_text(yaml.safe_dump(raw))
    train(ONE, straight, tmp_path / "one")
    train(TWO, part, tmp_path / "two")
    train(ONE, straight, tmp_path / "two")
    one, two = (curves(tmp_path / name / "tiny_diffusion") for name in ("one", "two"))
    assert two["train/total"] == pytest.approx(one["train/total"], rel=1e-4)


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes("cpu") as (world, device):
        assert world.is_main and world.size == 1 and device.type == "cpu"
        assert world.gathered("x") == ["x"]
        values = torch.tensor([1.0, 2.0])
        assert torch.equal(world.mean(values), values)
