"""A damaged photo ends a run in one line; the repaired run continues to the same weights."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from training_cases import TRAIN, UNET, run_config

from refusion.checkpoint import read_checkpoint
from refusion.config import config_to_dict
from refusion.errors import ConfigError
from refusion.training import Trainer
from refusion.training.workers import SampleError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
DAMAGED = "02.jpg"


@pytest.fixture
def pairs(tmp_path):
    """Folders lq and gt of JPEG photos, whose gt/02.jpg is cut in half; returns a whole copy."""
    for kind in ("lq", "gt"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            rng = np.random.default_rng(number)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64)).save(tmp_path / kind / f"{number:02}.jpg", quality=95)
    whole = tmp_path / "whole.jpg"
    shutil.copy(tmp_path / "gt" / DAMAGED, whole)
    data = whole.read_bytes()
    (tmp_path / "gt" / DAMAGED).write_bytes(data[: len(data) // 2])
    return whole


def config_of(folder, stage="diffusion", workers=0, **changes):
    photos = {"type": "PairedFolder", "lq": str(folder / "lq"), "gt": str(folder / "gt")}
    photos |= {"cache": str(folder / "cache")}
    data = {"train": photos | {"patch": 32}, "validation": [], "batch_size": 1, "workers": workers}
    train = TRAIN | {"checkpoint_every": 100, "steps": 5}
    return run_config(stage, folder, folder / "cache", **{"data": data, "train": train} | changes)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_repaired_run_continues_to_the_same_weights(pairs, tmp_path, workers):
    config = config_of(tmp_path, workers=workers)
    stopped = Trainer(config, device=CPU, runs=tmp_path / "stopped")
    damaged = tmp_path / "gt" / DAMAGED
    message = rf"data\.train, sample 1: {damaged}: damaged .*tiny_diffusion is saved at step 1;"
    with pytest.raises(SampleError, match=message):
        stopped.train()
    assert not multiprocessing.active_children()
    assert read_checkpoint(stopped.model_file).info["step"] == 1
    shutil.copy(pairs, damaged)
    weights = []
    for folder in ("stopped", "straight"):
        trainer = Trainer(config, device=CPU, runs=tmp_path / folder)
        trainer.train()
        weights.append(trainer.weights())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize("stage", ["latent_unet", "joint"])
def test_in_every_stage(pairs, tmp_path, stage):
    message = rf"data\.train, sample 1: {tmp_path / 'gt' / DAMAGED}: damaged"
    changes = {"latent_unet": UNET} if stage == "latent_unet" else {}
    if stage == "joint":
        network = config_to_dict(config_of(tmp_path))["network"]
        changes = {"objective": None, "network": network | {"img_channel": 4, "wiring": "latent"}}
        changes |= {"latent_unet": {"checkpoint": str(trained_unet(tmp_path))}}
    with pytest.raises(SampleError, match=message):
        Trainer(config_of(tmp_path, stage, 1, **changes), device=CPU, runs=tmp_path).train()
    assert not multiprocessing.active_children()


def trained_unet(folder):
    """A latent U-Net trained without the damaged photo."""
    good = folder / "good"
    for kind in ("lq", "gt"):
        (good / kind).mkdir(parents=True)
        shutil.copy(folder / kind / "00.jpg", good / kind)
    config = config_of(good, "latent_unet", latent_unet=UNET, train=TRAIN | {"steps": 1})
    trainer = Trainer(config, device=CPU, runs=good)
    trainer.train()
    return trainer.model_file


@pytest.mark.parametrize("workers", [0, 1])
def test_while_latents_are_encoded(pairs, tmp_path, workers):
    plain = config_to_dict(config_of(tmp_path, workers=workers))
    changes = {
        "latent_unet": {"checkpoint": str(trained_unet(tmp_path))},
        "network": plain["network"] | {"img_channel": 4, "wiring": "latent"},
        "data": plain["data"] | {"cached_latents": 4},
    }
    trainer = Trainer(config_of(tmp_path, **changes), device=CPU, runs=tmp_path)
    message = rf"data\.train, sample 1: .*{DAMAGED}: damaged .*tiny_diffusion has not begun;"
    with pytest.raises(SampleError, match=message):
        trainer.train()
    assert not multiprocessing.active_children()
    assert not (trainer.folder / "latents.safetensors").exists()


def test_in_validation(pairs, tmp_path):
    plain = config_to_dict(config_of(tmp_path))
    whole = plain["data"]["train"] | {"name": "whole", "patch": None}
    data = plain["data"] | {"validation": [whole]}
    (tmp_path / "train").mkdir()
    for kind in ("lq", "gt"):
        (tmp_path / "train" / kind).mkdir()
        shutil.copy(tmp_path / kind / "00.jpg", tmp_path / "train" / kind)
        data["train"] = data["train"] | {kind: str(tmp_path / "train" / kind)}
    train = TRAIN | {"validate_every": 3, "checkpoint_every": 100}
    trainer = Trainer(config_of(tmp_path, data=data, train=train), device=CPU, runs=tmp_path)
    message = rf"data\.validation, set 'whole', sample 2: .*{DAMAGED}: damaged .*at step 3;"
    with pytest.raises(SampleError, match=message):
        trainer.train()
    assert read_checkpoint(trainer.model_file).info["step"] == 3


ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run_command(launch, folder, **changes):
    options = folder / "run.yml"
    options.write_text(yaml.safe_dump(config_to_dict(config_of(folder, **changes))))
    command = [*launch, ROOT / "train.py", "-opt", options, "--runs", folder / "runs", "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    start = time.monotonic()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    lines = [line for line in done.stderr.splitlines() if "refusion: " in line]
    return done.returncode, lines, time.monotonic() - start, done.stderr


def test_the_command_ends_with_one_line_and_code_2(pairs, tmp_path):
    code, lines, _, written = run_command(ONE, tmp_path, workers=2)
    assert code == 2
    assert written == f"{lines[0]}\n"
    assert lines[0].startswith(
        f"refusion: error: data.train, sample 1: {tmp_path / 'gt' / DAMAGED}: damaged or not"
    )


def test_two_processes_end_with_one_line(pairs, tmp_path):
    """Process 1 has the damaged photo; process 0, which writes the state, does not wait for it."""
    data = config_to_dict(config_of(tmp_path, workers=1))["data"] | {"batch_size": 2}
    code, lines, seconds, written = run_command(TWO, tmp_path, data=data)
    assert code != 0
    assert len(lines) == 1 and f"{DAMAGED}: damaged" in lines[0], written[-3000:]
    assert written.count("exitcode  : 2") >= 1
    assert "RuntimeError" not in written and "refusion/training" not in written
    assert seconds < 60


def test_a_run_folder_that_cannot_be_written_is_one_line(tmp_path, pairs):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--runs: cannot create the folder"):
        Trainer(config_of(tmp_path), device=CPU, runs=tmp_path / "file")
