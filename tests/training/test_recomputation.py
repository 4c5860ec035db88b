"""Gradient checkpointing: less memory, the same weights, the same files."""

import pytest
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.nets import ConditionalNAFNet
from refusion.training import Trainer
from refusion.training.preview import measure_step
from refusion.training.recomputation import recompute_blocks
from refusion.training.stages import build_stage

CPU = torch.device("cpu")


@pytest.fixture
def config_of(tmp_path):
    photos = make_photos(tmp_path / "photos")
    return lambda stage, **train: run_config(stage, photos, tmp_path / "cache", train=TRAIN | train)


@pytest.mark.parametrize("stage", ["latent_unet", "diffusion"])
def test_a_run_gives_the_same_weights_and_can_be_continued_without(config_of, tmp_path, stage):
    runs = []
    for name, first in (("plain", False), ("again", True)):
        for steps, checkpointed in ((3, first), (6, False)):
            config = config_of(stage, steps=steps, checkpoint_blocks=checkpointed)
            trainer = Trainer(config, device=CPU, runs=tmp_path / name)
            trainer.train()
        runs.append(trainer)
    plain, again = (run.weights() for run in runs)
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], again[name], rtol=1e-4, atol=1e-5)


def test_a_network_without_such_blocks_is_said(caplog):
    assert recompute_blocks(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1))) == 0
    assert "train.checkpoint_blocks: no effect" in caplog.text


def test_gradients_agree_and_fewer_tensors_are_kept(config_of):
    kwargs = {"img_channel": 3, "width": 8, "enc_blk_nums": [3], "dec_blk_nums": [3]}
    config = config_of("diffusion")
    sizes, gradients = [], []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        stage = build_stage(config, CPU)
        stage.network = stage.module = ConditionalNAFNet(**kwargs)
        for parameter in stage.module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        if checkpointed:
            assert recompute_blocks(stage.module) == 7
        batch = {name: torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32) for name in
                 ("lq", "gt")}  # fmt: skip
        sizes.append(measure_step(config, stage, batch, CPU, config.data.batch_size))
        gradients.append([parameter.grad for parameter in stage.module.parameters()])
    plain, again = sizes
    assert again.saved < plain.saved / 2
    assert 1.1 * plain.flops < again.flops < 1.34 * plain.flops  # part of a second forward pass
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
