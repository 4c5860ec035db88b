"""Stage regression: what is minimised, what is learnt, and what a config may not say."""

import pytest
import tiny_models
import torch
from training_cases import TRAIN, make_photos, run_config

from refusion.config import config_from_dict, config_to_dict, model_config_from_dict
from refusion.errors import ConfigError
from refusion.restorers import load_restorer
from refusion.training import Trainer
from refusion.training.stages.regression import RegressionStage

CPU = torch.device("cpu")
NONE = dict.fromkeys(("sde", "prediction", "sampling", "latent_unet"))


def blind_config(tmp_path, **changes):
    photos = tmp_path / "photos"
    if not photos.exists():
        make_photos(photos)
    given = NONE | {"network": tiny_models.SWINIR, "objective": {"type": "x0", "loss": "l2"}}
    return run_config("regression", photos, tmp_path / "cache", **given | changes)


def item():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, 16, 16, generator=generator) for name in ("lq", "gt")}


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_is_the_distance_of_the_restored_photo(tmp_path, loss):
    config = blind_config(tmp_path, objective={"type": "x0", "loss": loss})
    stage, batch = RegressionStage(config, CPU), item()
    error = batch["lq"] - batch["gt"]  # the network begins as the identity
    expected = error.abs().mean() if loss == "l1" else error.square().mean()
    total = stage.loss(batch, [])["total"]
    torch.testing.assert_close(total, expected)
    total.backward()
    assert stage.module.last.weight.grad.abs().max() > 0


def test_it_learns_a_photo_s_degradation_and_restores_by_its_file(tmp_path):
    train = TRAIN | {"steps": 60, "validate_every": 60, "checkpoint_every": 60}
    train |= {"optimizer": {"type": "AdamW", "lr": 1e-2}, "ema_decay": 0.8}
    plain = config_to_dict(blind_config(tmp_path, train=train))
    noise = {"type": "GaussianNoise", "sigma": [60, 60], "gray_share": 1.0, "clip": True}
    plain["data"]["train"]["degradation"] = noise
    plain["data"]["validation"][0]["degradation"] = noise
    terms = []
    trainer = Trainer(config_from_dict(plain), device=CPU, runs=tmp_path)
    scores = trainer.train(lambda step, total, seen: terms.append(seen["total"]))
    assert sum(terms[-10:]) < 0.8 * sum(terms[:10])
    assert scores["whole/restored/psnr"] > scores["whole/input/psnr"] + 0.3
    restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
    pair = trainer.validation["whole"][0]
    model = trainer.model()
    expected = model.network(pair["lq"][None]).clamp(0, 1)
    torch.testing.assert_close(restorer.restore(pair["lq"][None]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": None}, "network: required by stage regression"),
        (
            {"network": {"type": "ConditionalNAFNet"}},
            "network.type: stage regression takes NAFNet, SwinIR",
        ),
        ({"sde": {"type": "IRSDE", "max_sigma": 50}}, "sde: a SwinIR restores without a process"),
        ({"prediction": "noise"}, "prediction: a SwinIR"),
        ({"objective": None}, "objective.type: stage regression needs 'x0'"),
        ({"objective": {"type": "noise"}}, "objective.type: stage regression needs 'x0'"),
        ({"distillation": {"teacher": "dehaze"}}, "distillation: stage regression has no use"),
    ],
)
def test_configs_that_contradict_themselves(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        blind_config(tmp_path, **changes)


def test_a_diffusion_takes_no_such_network(tmp_path):
    plain = config_to_dict(blind_config(tmp_path)) | {"stage": "diffusion"}
    with pytest.raises(ConfigError, match=r"network\.type: stage diffusion takes no SwinIR"):
        config_from_dict(plain)


def test_a_model_without_a_process_says_nothing_of_one():
    config = model_config_from_dict(tiny_models.BLIND)
    assert config.sde is None and config.guide == 0
    with pytest.raises(ConfigError, match="sampling: a SwinIR restores without a process"):
        model_config_from_dict(
            tiny_models.BLIND | {"sampling": {"sampler": "posterior", "steps": 1}}
        )
