"""The channels of a network's output and the prediction that gives them a meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from refusion.config import config_from_dict, model_config_from_dict
from refusion.errors import ConfigError
from refusion.sde.scattering import CHANNELS


@pytest.mark.parametrize(
    ("prediction", "edits", "latent", "message"),
    [
        ("scattering", {}, None, "prediction: scattering describes RGB photos and needs"),
        ("scattering", {"out_channel": 5}, None, "prediction: scattering describes RGB photos"),
        ("scattering", {"out_channel": CHANNELS, "img_channel": 8}, {}, "prediction: scattering"),
        ("noise", {"out_channel": CHANNELS}, None, "network.out_channel: prediction noise has the"),
        ("scattering", {"out_channel": CHANNELS, "lens": True}, None, "prediction: scattering"),
        ("scattering", {"out_channel": CHANNELS}, None, None),
        ("noise", {"out_channel": 3}, None, None),
        ("noise", {"type": "NAFNetPair"}, None, "network.type: NAFNetPair needs prediction"),
        ("scattering", {"type": "NAFNetPair", "out_channel": CHANNELS}, None, None),
    ],
)
def test_the_output_has_the_channels_of_its_prediction(prediction, edits, latent, message):
    plain = {
        "task": "dehaze",
        "latent_unet": latent if latent is None else {"type": "LatentUNet", **latent},
        "network": {"type": "ConditionalNAFNet", **edits},
        "sde": {"type": "IRSDE", "max_sigma": 50},
        "prediction": prediction,
        "sampling": {"sampler": "posterior", "steps": 2},
    }
    if message is None:
        assert model_config_from_dict(plain, "m").prediction == prediction
        return
    with pytest.raises(ConfigError, match=f"m: {message}"):
        model_config_from_dict(plain, "m")


def test_haze_is_not_predicted_for_an_enlarged_photo():
    plain = {
        "task": "dehaze",
        "network": {"type": "ConditionalNAFNet", "out_channel": CHANNELS},
        "sde": {"type": "IRSDE", "max_sigma": 50},
        "prediction": "scattering",
        "sampling": {"sampler": "posterior", "steps": 2},
        "upscale": {"factor": 2},
    }
    with pytest.raises(ConfigError, match=r"m: prediction: scattering .* without latent"):
        model_config_from_dict(plain, "m")


def test_only_stages_with_states_roll_out():
    plain = yaml.safe_load((Path(__file__).parents[2] / "options" / "toy_unet.yml").read_text())
    plain["train"]["rollout"] = 0.5
    with pytest.raises(ConfigError, match=r"train\.rollout: stage latent_unet has no use for it"):
        config_from_dict(plain, "m")
