"""Noise of diffusers' schedulers and the meanings of an output, against diffusers itself."""

from pathlib import Path

import pytest
import torch

from refusion.errors import CheckpointError
from refusion.stable_diffusion.schedule import PREDICTIONS, schedule_of

NOWHERE = Path("scheduler_config.json")
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ZERO = SD | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_conversions_are_inverse(prediction):
    schedule = schedule_of(SD | {"prediction_type": prediction}, NOWHERE)
    x0, noise, t = draw(0, 3, 4, 5, 5), draw(1, 3, 4, 5, 5), torch.tensor([0, 500, 999])
    xt = schedule.noised(x0, noise, t)
    output = schedule.target(x0, noise, t)
    assert torch.allclose(schedule.x0(xt, output, t), x0, atol=1e-10)
    assert torch.allclose(schedule.noise(xt, output, t), noise, atol=1e-10)
    assert torch.allclose(schedule.output(xt, x0, t), output, atol=1e-9)


def test_zero_terminal_snr():
    schedule = schedule_of(ZERO, NOWHERE)
    plain = schedule_of(SD, NOWHERE)
    assert schedule.alpha_bar[-1] == 0 and schedule.alpha_bar[0] == plain.alpha_bar[0]
    assert bool((schedule.alpha_bar.diff() < 0).all())
    # At the end the state says nothing of x0 and the output says all.
    x0, noise = draw(0, 1, 4, 2, 2), draw(1, 1, 4, 2, 2)
    xt = schedule.noised(x0, noise, 999)
    assert torch.equal(xt, noise)
    assert torch.equal(schedule.x0(xt, schedule.target(x0, noise, 999), 999), x0)
    assert torch.allclose(schedule.output(xt, 2 * x0, 999), -2 * x0)


@pytest.mark.parametrize("config", [SD, ZERO, {}], ids=["scaled", "zero", "default"])
def test_the_numbers_are_diffusers(config):
    diffusers = pytest.importorskip("diffusers")
    schedule = schedule_of(config, NOWHERE)
    theirs = diffusers.DDPMScheduler.from_config(config, clip_sample=False)
    assert torch.allclose(schedule.alpha_bar.float(), theirs.alphas_cumprod, atol=1e-6)
    x0, noise, t = draw(0, 2, 4, 2, 2), draw(1, 2, 4, 2, 2), torch.tensor([3, 700])
    theirs_xt = theirs.add_noise(x0, noise, t)
    assert torch.allclose(schedule.noised(x0, noise, t), theirs_xt, atol=1e-5)
    if schedule.prediction == "v_prediction":
        velocity = theirs.get_velocity(x0, noise, t)
        assert torch.allclose(schedule.target(x0, noise, t), velocity, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction_type": "sample"},
        {"beta_schedule": "sigmoid"},
        SD | {"rescale_betas_zero_snr": True},
    ],
)
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json: "):
        schedule_of(wrong, NOWHERE)
