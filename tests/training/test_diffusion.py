"""The diffusion stage: a perfect network has no loss, whatever it predicts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_cases import make_photos, run_config

from refusion.config import config_from_dict, config_to_dict
from refusion.errors import ConfigError
from refusion.nets import LatentUNet
from refusion.sde import PREDICTIONS
from refusion.sde.scattering import CHANNELS
from refusion.training.stages.diffusion import DiffusionStage, sample_times

INVERTIBLE = [name for name, prediction in PREDICTIONS.items() if prediction.target]


class Oracle(nn.Module):
    """Knows x0 and answers in the units of ``prediction``."""

    def __init__(self, sde, prediction, x0):
        super().__init__()
        self.sde, self.prediction, self.x0 = sde, prediction, x0

    def forward(self, xt, mu, t, *conditions):
        noise = self.sde.noise_from_x0(xt, self.x0, mu, t)
        return PREDICTIONS[self.prediction].target(self.sde, self.x0, noise, mu, t)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    return {key: torch.rand(4, 3, 8, 8, generator=generator) for key in ("lq", "gt")}


@pytest.fixture
def stage_of(tmp_path):
    base = run_config("diffusion", make_photos(tmp_path / "photos"), tmp_path / "cache")

    def make(prediction, objective, **changes):
        raw = config_to_dict(base) | {"prediction": prediction, "objective": {"type": objective}}
        raw |= changes
        return DiffusionStage(config_from_dict(raw), torch.device("cpu"))

    return make


@pytest.mark.parametrize("prediction", INVERTIBLE)
@pytest.mark.parametrize("objective", ["maximum_likelihood", "x0", "noise"])
def test_perfect_network_has_no_loss(stage_of, pair, prediction, objective):
    stage = stage_of(prediction, objective)
    draws = [range(first, first + 4) for first in range(0, 40, 4)]
    random_loss = sum(stage.loss(pair, seeded(*four))["total"].item() for four in draws)
    stage.network = Oracle(stage.sde, prediction, pair["gt"])
    loss = sum(stage.loss(pair, seeded(*four))["total"].item() for four in draws)
    # The reverse step is an Euler step: its mean meets the optimum to first order in dt only.
    assert loss < (0.05 if objective == "maximum_likelihood" else 1e-3) * random_loss


def test_latents_and_images_give_the_same_loss(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    images = stage.loss(pair, seeded(3, 4, 5, 6))["total"]
    latents = {"mu": pair["lq"], "x0": pair["gt"]}
    assert torch.equal(images, stage.loss(latents, seeded(3, 4, 5, 6))["total"])


def test_times_and_noise_come_from_the_generators(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    seeds = ((3, 4, 5, 6), (3, 4, 5, 6), (7, 4, 5, 6))
    losses = [stage.loss(pair, seeded(*four))["total"].item() for four in seeds]
    assert losses[0] == losses[1] != losses[2]


def test_an_image_draws_the_same_whatever_its_batch(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    whole = stage.loss(pair, seeded(3, 4, 5, 6))["total"]
    halves = [
        stage.loss({key: images[part] for key, images in pair.items()}, seeded(*seeds))["total"]
        for part, seeds in ((slice(2), (3, 4)), (slice(2, 4), (5, 6)))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_a_lens_network_is_told_or_refused(stage_of, pair):
    stage = stage_of("x0_residual", "x0")
    stage.needs, told = ["lens"], []
    stage.network = lambda xt, mu, t, lens: told.append(lens) or xt
    with pytest.raises(ConfigError, match=r"network\.lens: the training data has no lenses"):
        stage.loss(pair, seeded(1, 2, 3, 4))
    lens = torch.rand(4, 3)
    stage.loss(pair | {"lens": lens}, seeded(1, 2, 3, 4))
    assert told == [lens]


def test_a_guide_is_encoded_with_both_and_told_at_the_latents_size(stage_of, pair):
    stage, guide = stage_of("x0_residual", "x0"), torch.rand(4, 2, 8, 8)
    stage.latent_unet, stage.needs = LatentUNet(ch=4, ch_mult=[1, 2], in_ch=5), ["guide"]
    with pytest.raises(ConfigError, match=r"latent_unet\.in_ch: the data have no guide"):
        stage.encode(pair)
    found = stage.encode(pair | {"guide": guide})
    for name, image in (("mu", "lq"), ("x0", "gt")):
        z = stage.latent_unet.encode(torch.cat([pair[image], guide], dim=1)).z
        torch.testing.assert_close(found[name], z, rtol=0, atol=1e-6)
    torch.testing.assert_close(found["guide"], F.avg_pool2d(guide, 2))
    told = []
    stage.network = lambda xt, mu, t, guide: told.append(guide) or xt
    stage.loss(found, seeded(1, 2, 3, 4))
    assert told == [found["guide"]]
    with pytest.raises(ConfigError, match=r"network\.guide: the training data has no guide"):
        stage.loss({key: found[key] for key in ("mu", "x0")}, seeded(1, 2, 3, 4))


@pytest.mark.parametrize("mode", ["bicubic", "nearest"])
def test_super_resolution_starts_from_the_enlarged_photo(stage_of, pair, mode):
    stage = stage_of("x0_residual", "x0", upscale={"factor": 2, "mode": mode})
    small = {"lq": pair["lq"][..., :4, :4], "gt": pair["gt"]}
    mu = stage.encode(small)["mu"]
    assert mu.shape == pair["gt"].shape
    if mode == "nearest":
        assert torch.equal(mu[..., ::2, ::2], small["lq"])
    assert torch.equal(stage.encode(small)["x0"], pair["gt"])


def test_photos_of_another_size_or_number_of_views_are_refused(stage_of, pair):
    stereo = {key: image.repeat(1, 2, 1, 1) for key, image in pair.items()}
    mono, doubled = stage_of("x0_residual", "x0"), {"upscale": {"factor": 2}}
    with pytest.raises(ConfigError, match=r"data: expected photos of 3 channels .*, got 6"):
        mono.loss(stereo, seeded(1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"data: .* must be 16x16, 2 times .*, got 8x8; set ups"):
        stage_of("x0_residual", "x0", **doubled).loss(pair, seeded(1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"data: the ground truth must be 4x8, 1 times .* 8x8"):
        mono.loss({"lq": pair["lq"][..., :4], "gt": pair["gt"]}, seeded(1, 2, 3, 4))
    network = {**mono.model_config.network.settings, "stereo": True}
    both = stage_of("x0_residual", "x0", network={"type": "ConditionalNAFNet", **network})
    assert both.loss(stereo, seeded(1, 2, 3, 4))["total"].isfinite()
    with pytest.raises(ConfigError, match=r"data: expected photos of 6 channels .*, got 3"):
        both.loss(pair, seeded(1, 2, 3, 4))


@pytest.mark.parametrize("bias", [-0.5, 0.0, 2.0])
def test_times_follow_their_density(bias):
    generator = torch.Generator().manual_seed(0)
    t = sample_times(10, bias, [generator] * 40000)
    counts = torch.bincount(t, minlength=11).double() / len(t)
    edges = (torch.arange(11, dtype=torch.float64) / 10) ** (1 + bias)
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:], edges.diff(), atol=0.008, rtol=0)


def with_rollout(share):
    return {"train": {"steps": 2, "optimizer": {"type": "Lion", "lr": 1e-3}, "rollout": share}}


@pytest.mark.parametrize("objective", ["x0", "noise"])
def test_perfect_network_has_no_loss_in_states_of_its_own(stage_of, pair, objective):
    stage = stage_of("x0_residual", objective, **with_rollout(1.0))
    stage.network = Oracle(stage.sde, "x0_residual", pair["gt"])
    assert stage.loss(pair, seeded(0, 1, 2, 3))["total"].item() == pytest.approx(0, abs=1e-4)


def test_states_contain_the_models_own_estimate(stage_of, pair):
    """A network that answers `no change` for all states sees states around mu, not around x0."""
    stage = stage_of("x0_residual", "x0", sde={"type": "IRSDE", "max_sigma": 1}, **with_rollout(1))
    stage.network = lambda xt, mu, t: torch.zeros_like(xt)
    encoded = stage.encode(pair)
    sample = stage.sample_and_predict(encoded, seeded(0, 1, 2, 3))
    assert (sample.xt - encoded["mu"]).abs().max() < 6 / 255
    again = stage.sde.sample_marginal(encoded["x0"], encoded["mu"], sample.t, sample.noise)
    torch.testing.assert_close(again, sample.xt)


def test_a_share_of_the_states_is_rolled_out_whatever_the_batch(stage_of, pair):
    stage = stage_of("x0_residual", "x0", **with_rollout(0.5))
    encoded = stage.encode(pair)
    together = stage.sample_and_predict(encoded, seeded(0, 1, 2, 3)).xt
    alone = [
        stage.sample_and_predict({k: v[i : i + 1] for k, v in encoded.items()}, seeded(i)).xt
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    rolled = [
        not torch.equal(stage._own_estimates(encoded, seeded(*[s] * 4))[0], encoded["x0"][0])
        for s in range(40)
    ]
    assert 10 < sum(rolled) < 30


def test_haze_of_the_data_is_part_of_the_loss(stage_of, pair):
    settings = {"img_channel": 3, "width": 8, "enc_blk_nums": [1], "dec_blk_nums": [1]}
    network = {"type": "ConditionalNAFNet", "out_channel": CHANNELS, **settings}
    stage = stage_of("scattering", "x0", network=network)
    plain = stage.loss(pair, seeded(0, 1, 2, 3))
    distance = F.l1_loss(pair["lq"], pair["gt"]).item()
    assert plain["total"].item() == pytest.approx(distance)  # it starts at no haze
    maps = {"transmission": torch.full((4, 1, 8, 8), 0.5), "airlight": torch.ones(4, 3, 8, 8)}
    terms = stage.loss(pair | maps, seeded(0, 1, 2, 3))
    assert terms["transmission"].item() == pytest.approx(0.5 * 0.5)
    parts = sum(value.item() for name, value in terms.items() if name != "total")
    assert terms["total"].item() == pytest.approx(parts)
    terms["total"].backward()
    assert stage.network.last.weight.grad.abs().max() > 0
