"""`train.pair_share`: states that are the degraded photo itself, as while restoring."""

import pytest
import torch
from torch import nn
from training_cases import make_photos, run_config

from refusion.config import config_from_dict, config_to_dict
from refusion.errors import ConfigError
from refusion.images.noise_level import NEGLIGIBLE, estimate_noise_std
from refusion.training.stages.diffusion import DiffusionStage


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def plain(tmp_path):
    base = run_config("diffusion", make_photos(tmp_path / "photos"), tmp_path / "cache")
    network = {**base.network.settings, "type": "ConditionalNAFNet", "conditional": False}
    sde = {"type": "DenoisingSDE", "max_sigma": 80, "T": 1000, "eps": 0.5}
    changes = {"sde": sde, "network": network, "prediction": "noise"}
    return config_to_dict(base) | changes | {"objective": {"type": "x0", "loss": "log_l2"}}


@pytest.fixture
def stage_of(plain):
    def make(share):
        raw = plain | {"train": {**plain["train"], "pair_share": share}}
        return DiffusionStage(config_from_dict(raw), torch.device("cpu"))

    return make


@pytest.fixture
def pair():
    """Flat photos whose noise has 3, 10, 30 and 60 levels."""
    levels = torch.tensor([3, 10, 30, 60])[:, None, None, None] / 255
    x0 = torch.full((4, 3, 64, 64), 0.5)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    return {"mu": x0 + levels * noise, "x0": x0}


def test_the_state_is_the_photo_at_the_time_of_its_noise(stage_of, pair):
    stage = stage_of(1.0)
    sample = stage.sample_and_predict(pair, seeded(1, 2, 3, 4))
    assert torch.equal(sample.xt, pair["mu"])
    level = estimate_noise_std(pair["mu"])
    torch.testing.assert_close(stage.sde.std(sample.t), level.double(), atol=0.1 / 255, rtol=0)
    expected = [stage.sde.optimal_timestep(value) for value in level.tolist()]
    assert sample.t.tolist() == expected
    again = stage.sde.sample_marginal(pair["x0"], pair["mu"], sample.t, sample.noise)
    torch.testing.assert_close(again, sample.xt)


def test_a_perfect_network_has_the_least_loss(stage_of, pair):
    class Oracle(nn.Module):
        def forward(self, xt, mu, t):
            return stage.sde.noise_from_x0(xt, pair["x0"], mu, t)

    stage = stage_of(0.5)
    stage.network = Oracle()
    loss = stage.loss(pair, seeded(1, 2, 3, 4))["total"].item()
    assert loss == pytest.approx(-40, abs=0.01)  # 10 log10 of the floor 1e-4


def test_a_share_of_the_states_is_photos_whatever_the_batch(stage_of, pair):
    stage = stage_of(0.5)
    together = stage.sample_and_predict(pair, seeded(0, 1, 2, 3))
    for i in range(4):
        alone = {key: value[i : i + 1] for key, value in pair.items()}
        one = stage.sample_and_predict(alone, seeded(i))
        assert torch.equal(one.xt, together.xt[i : i + 1])
        assert torch.equal(one.t, together.t[i : i + 1])
    many = {key: value[:1].expand(60, -1, -1, -1) for key, value in pair.items()}
    photos = stage.sample_and_predict(many, seeded(*range(60))).xt == many["mu"]
    assert 15 < sum(photos.flatten(1).all(1).tolist()) < 45


def test_without_a_share_nothing_changes(stage_of, pair):
    plain, paired = stage_of(0.0), stage_of(1e-9)
    first, second = (s.sample_and_predict(pair, seeded(5, 6, 7, 8)) for s in (plain, paired))
    assert torch.equal(first.xt, second.xt)
    assert torch.equal(first.t, second.t)


def test_a_photo_without_noise_starts_at_the_least_visible_level(stage_of, pair):
    stage = stage_of(1.0)
    sample = stage.sample_and_predict({**pair, "mu": pair["x0"]}, seeded(1, 2, 3, 4))
    assert sample.t.tolist() == [stage.sde.optimal_timestep(NEGLIGIBLE)] * 4
    assert not sample.noise.any()


def test_pairs_need_a_denoising_process_on_photos(plain):
    share = {"train": {**plain["train"], "pair_share": 0.5}}
    assert config_from_dict(plain | share).train.pair_share == 0.5
    message = r"train\.pair_share: expected stage diffusion with sde\.type DenoisingSDE on photos"
    for change, got in (
        ({"sde": {"type": "IRSDE", "max_sigma": 50}}, "got stage diffusion with IRSDE;"),
        ({"latent_unet": {"checkpoint": "x"}}, "with DenoisingSDE in a latent;"),
        ({"stage": "joint"}, "got stage joint with DenoisingSDE;"),
    ):
        with pytest.raises(ConfigError, match=message) as found:
            config_from_dict(plain | share | change)
        assert got in str(found.value)
    with pytest.raises(ConfigError, match=r"pair_share: must be at least 0 and at most 1"):
        config_from_dict(plain | {"train": {**plain["train"], "pair_share": 1.5}})
