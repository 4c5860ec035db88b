"""The diffusion stage: a perfect network has no loss, whatever it predicts."""

import pytest
import torch
from torch import nn
from training_cases import make_photos, run_config

from refusion.config import config_from_dict, config_to_dict
from refusion.sde import PREDICTIONS
from refusion.training.diffusion import DiffusionStage, draw_times


class Oracle(nn.Module):
    """Knows x0 and answers in the units of ``prediction``."""

    def __init__(self, sde, prediction, x0):
        super().__init__()
        self.sde, self.prediction, self.x0 = sde, prediction, x0

    def forward(self, xt, mu, t):
        noise = self.sde.noise_from_x0(xt, self.x0, mu, t)
        return PREDICTIONS[self.prediction].target(self.sde, self.x0, noise, mu, t)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    return {key: torch.rand(4, 3, 8, 8, generator=generator) for key in ("lq", "gt")}


@pytest.fixture
def stage_of(tmp_path):
    base = run_config("diffusion", make_photos(tmp_path / "photos"), tmp_path / "cache")

    def make(prediction, objective):
        raw = config_to_dict(base) | {"prediction": prediction, "objective": {"type": objective}}
        return DiffusionStage(config_from_dict(raw), torch.device("cpu"))

    return make


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("objective", ["maximum_likelihood", "x0", "noise"])
def test_perfect_network_has_no_loss(stage_of, pair, prediction, objective):
    stage = stage_of(prediction, objective)
    generator = torch.Generator().manual_seed(0)
    random_loss = stage.loss(pair, generator)["total"].item()
    stage.module = Oracle(stage.sde, prediction, pair["gt"])
    loss = stage.loss(pair, torch.Generator().manual_seed(0))["total"].item()
    # The reverse step is an Euler step: its mean meets the optimum to first order in dt only.
    assert loss < (0.05 if objective == "maximum_likelihood" else 1e-3) * random_loss


def test_latents_and_images_give_the_same_loss(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    images = stage.loss(pair, torch.Generator().manual_seed(3))["total"]
    latents = {"mu": pair["lq"], "x0": pair["gt"]}
    assert torch.equal(images, stage.loss(latents, torch.Generator().manual_seed(3))["total"])


def test_times_and_noise_come_from_the_generator(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    losses = [stage.loss(pair, torch.Generator().manual_seed(s))["total"].item() for s in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_times_follow_their_density(bias):
    t = draw_times(40000, 10, bias, torch.Generator().manual_seed(0))
    counts = torch.bincount(t, minlength=11).double() / len(t)
    edges = (torch.arange(11, dtype=torch.float64) / 10) ** (1 + bias)
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:], edges.diff(), atol=0.008, rtol=0)
