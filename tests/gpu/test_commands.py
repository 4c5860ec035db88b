"""The commands on a GPU: restoring a folder, training and torchrun with NCCL."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refusion.checkpoint import read_checkpoint
from refusion.cli import main
from refusion.images.io import read_image

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
TINY = ["train.steps=4", "data.batch_size=2", "data.workers=1", "data.train.patch=32"]
TINY += ["train.log_every=1", "train.validate_every=4", "train.checkpoint_every=2"]
# A program that torchrun starts: gradients are exchanged by NCCL on GPUs and by gloo on CPUs.
EXCHANGE = """
import signal, sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from refusion.devices.processes import join_processes
from refusion.nets import ConditionalNAFNet
signal.alarm(60)  # torchrun starts it in a session of its own, so nothing else ends it if it hangs
with join_processes(sys.argv[1]) as (world, device):
    assert dist.get_backend() == ("nccl" if device.type == "cuda" else "gloo")
    value = torch.full((3,), 2.0, device=device)
    dist.all_reduce(value)
    assert value.tolist() == [2.0] * 3 and world.gathered("a") == ["a"]
    net = ConditionalNAFNet(width=8, enc_blk_nums=[1], dec_blk_nums=[1]).to(device)
    parallel = DistributedDataParallel(net, gradient_as_bucket_view=True)
    x = torch.rand(1, 3, 32, 32, device=device)
    parallel(x, x, 3).square().mean().backward()
    assert net.intro.weight.grad.abs().sum() > 0
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((120, 90 + number), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("kind", ["latent", "pixel"])
def test_a_folder_is_restored(kind, photos, device, tiny_checkpoint, tmp_path):
    def restored(where):
        out = tmp_path / where
        argv = ["restore", "--weights", str(tiny_checkpoint(kind)), "--input", str(photos)]
        options = ["--output", str(out), "--device", where, "--precision", "fp32", "--quiet"]
        assert main([*argv, *options]) == 0
        return [read_image(file).samples.int() for file in sorted(out.rglob("*.png"))]

    results = restored(device)
    assert len(results) == 4
    for ours, expected in zip(results, restored("cpu"), strict=True):
        assert int((ours - expected).abs().max()) <= 2


def changes(photos, folder, **more):
    texts = [*TINY, f"data.train.folders=[{photos}]", f"data.train.cache={folder / 'cache'}"]
    texts += ["data.validation=[]", *(f"{key}={value}" for key, value in more.items())]
    return [part for text in texts for part in ("--set", text)]


def train(opt, device, folder, *options):
    argv = ["train", "-opt", str(ROOT / "options" / opt), "--device", device, "--quiet"]
    return main([*argv, "--runs", str(folder / "runs"), *options])


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16"])
def test_a_diffusion_is_trained(precision, photos, device, tmp_path):
    if (device, precision) == ("cpu", "fp16"):
        pytest.skip("the CPU has no float16")
    more = {"train.precision": precision}
    exported = tmp_path / "small.safetensors"
    options = changes(photos, tmp_path, **more)
    assert train("toy.yml", device, tmp_path, *options, "--export", str(exported)) == 0
    weights = read_checkpoint(exported)
    assert weights.info["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in weights.tensors.values())


def test_a_latent_unet_is_trained_and_its_run_continues(photos, device, tmp_path):
    options = changes(photos, tmp_path)
    assert train("toy_unet.yml", device, tmp_path, *options) == 0
    model = tmp_path / "runs/toy_unet/model.safetensors"
    assert read_checkpoint(model).info["step"] == 4
    assert train("toy_unet.yml", device, tmp_path, *options, "--set", "train.steps=6") == 0
    assert read_checkpoint(model).info["step"] == 6


def test_gradients_are_exchanged_under_torchrun(device, tmp_path):
    program = tmp_path / "exchange.py"
    program.write_text(EXCHANGE)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *TORCHRUN, program, device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
