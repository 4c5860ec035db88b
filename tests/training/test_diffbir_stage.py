"""Stage diffbir: only the control branch learns, it resumes, and what it learns helps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from options_cases import OPTIONS, toy, write_photos
from tiny_stable_diffusion import make_stable_diffusion
from training_cases import BlockingCopies

from refusion.config import load_config
from refusion.errors import ConfigError
from refusion.sde import SeededNoise
from refusion.stable_diffusion import encode_photo, load_stable_diffusion
from refusion.stable_diffusion.control import load_control, predict_controlled
from refusion.stable_diffusion.sampling import sample
from refusion.training import Trainer
from refusion.training.stages.diffbir import DiffBIRStage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("diffbir")
    write_photos(root)
    return root


def config_of(folder, tiny_sd, **settings):
    config = toy(OPTIONS / "diffbir_stage2.yml", folder)
    own = {"sd": str(tiny_sd), "stage1": None, "sampling_steps": 1, "sampler": "ddim", **settings}
    return replace(config, diffbir=replace(config.diffbir, **own))


def batch_of(config, count=2, side=32):
    generator = torch.Generator().manual_seed(4)
    gt = F.interpolate(torch.rand(count, 3, 5, 5, generator=generator), side, mode="bicubic")
    gt = gt.clamp(0, 1)
    return {"gt": gt, "lq": F.avg_pool2d(F.pad(gt, (2, 2, 2, 2), mode="replicate"), 5, stride=1)}


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_gradients_reach_the_branch_alone(folder, tiny_sd):
    stage = DiffBIRStage(config_of(folder, tiny_sd), CPU)
    for name, parameter in stage.module.named_parameters():
        if name.startswith("controlnet_"):  # at 0 they would keep gradients from all before them
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    loss = stage.loss(batch_of(stage), generators(1, 2))["total"]
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert all(p.grad is not None and p.grad.any() for p in stage.module.parameters())
    for network in stage.sd.networks():
        assert all(p.grad is None for p in network.parameters())


def test_a_step_copies_its_times_and_prompts_without_waiting(folder, tiny_sd):
    stage = DiffBIRStage(config_of(folder, tiny_sd), CPU)
    with BlockingCopies() as blocking:
        stage.loss(batch_of(stage), generators(1, 2))
    assert not blocking.found


def test_the_condition_is_a_mean_and_the_truth_a_draw(folder, tiny_sd):
    stage = DiffBIRStage(config_of(folder, tiny_sd), CPU)
    batch = batch_of(stage)
    with torch.no_grad():
        means = [encode_photo(stage.sd, batch[key]) for key in ("lq", "gt")]
    condition, x0 = stage._latents(batch, generators(1, 2))
    torch.testing.assert_close(condition, means[0])
    assert not torch.allclose(x0, means[1], atol=1e-3)
    assert not torch.equal(x0, stage._latents(batch, generators(1, 3))[1])


def test_each_image_has_its_own_draw_and_prompts_drop(folder, tiny_sd):
    told = {"prompt": "a sharp photo"}
    stage = DiffBIRStage(config_of(folder, tiny_sd, prompt_dropout=0.0, **told), CPU)
    dropping = DiffBIRStage(config_of(folder, tiny_sd, prompt_dropout=1.0, **told), CPU)
    silent = DiffBIRStage(config_of(folder, tiny_sd, prompt_dropout=0.0), CPU)
    batch = batch_of(stage)

    def loss(stage, batch, *seeds):
        with torch.no_grad():
            return stage.loss(batch, generators(*seeds))["total"].item()

    alone = [
        loss(stage, {k: v[i : i + 1] for k, v in batch.items()}, seed)
        for i, seed in ((0, 1), (1, 2))
    ]
    assert loss(stage, batch, 1, 2) == pytest.approx(np.mean(alone), rel=1e-4)
    assert loss(dropping, batch, 1, 2) == loss(silent, batch, 1, 2) != loss(stage, batch, 1, 2)


def test_trains_resumes_and_is_what_inference_reads(folder, tiny_sd):
    config = config_of(folder, tiny_sd)
    config = replace(config, train=replace(config.train, steps=2, checkpoint_every=1))
    whole = Trainer(config, device=CPU, runs=folder / "whole")
    scores = whole.train()
    assert {"held_out/input/psnr", "held_out/restored/psnr"} <= scores.keys()
    first = replace(config, train=replace(config.train, steps=1))
    Trainer(first, device=CPU, runs=folder / "parts").train()
    second = Trainer(config, device=CPU, runs=folder / "parts")
    second.train()
    assert second.step == 2
    for name, tensor in whole.weights().items():
        assert torch.equal(tensor, second.weights()[name]), name
    sd = load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")
    control = load_control(whole.model_file, sd)
    for name, tensor in control.state_dict().items():
        assert torch.equal(tensor, whole.weights()[name])
    again = config_of(folder, tiny_sd, control=str(whole.model_file))
    started = DiffBIRStage(again, CPU).module.state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in whole.weights().items())


def test_stage1_must_be_there_and_patches_whole(folder, tiny_sd):
    stage = DiffBIRStage(config_of(folder, tiny_sd), CPU)
    batch = {key: value[..., :30] for key, value in batch_of(stage).items()}
    with pytest.raises(ConfigError, match="patches in multiples of 4"):
        stage.loss(batch, generators(1, 2))
    config = load_config(OPTIONS / "diffbir_stage2.yml")
    for key, message in [("init", "init: stage diffbir"), ("diffbir", "diffbir: required by")]:
        with pytest.raises(ConfigError, match=message):
            replace(config, **{key: "x" if key == "init" else None})
    with pytest.raises(ConfigError, match="diffbir: stage regression has no use for it"):
        replace(load_config(OPTIONS / "diffbir_stage1.yml"), diffbir=config.diffbir)


@pytest.mark.slow
def test_it_learns(folder, tmp_path):
    """The loss falls, and what is drawn comes nearer to the ground truth's latent.

    With v the first steps are not amplified, as noise would be, by a U-Net that knows nothing.
    """
    pytest.importorskip("diffusers")
    noise = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    stage = DiffBIRStage(config_of(folder, make_stable_diffusion(tmp_path / "sd", **noise)), CPU)
    sd, batch = stage.sd, batch_of(stage, 4, side=16)
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=3e-3)

    @torch.no_grad()
    def measure():
        stage.module.eval()
        losses = [stage.loss(batch, generators(*range(s, s + 4)))["total"] for s in range(0, 80, 4)]
        condition, truth = (encode_photo(sd, batch[key]) for key in ("lq", "gt"))
        drawn = sample(
            sd,
            lambda zt, t: predict_controlled(
                sd, stage.module, zt, condition, t, stage.prompts[:1].expand(4, -1, -1)
            ),
            SeededNoise(1).initial(truth),
            sampler="ddim",
            steps=8,
            seeds=[1] * 4,
        )
        return torch.stack(losses).mean().item(), F.mse_loss(drawn, truth).item()

    loss_before, error_before = measure()
    for step in range(150):
        stage.module.train()
        optimizer.zero_grad()
        seeds = range(1000 + 4 * step, 1004 + 4 * step)
        stage.loss(batch, generators(*seeds))["total"].backward()
        optimizer.step()
    loss, error = measure()
    assert loss < 0.8 * loss_before
    assert error < 0.7 * error_before, (error, error_before)
