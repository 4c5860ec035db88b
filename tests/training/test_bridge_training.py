"""Bridges train from a YAML like any other process, at every time, with every kind of network."""

import math

import pytest
import torch
from training_cases import make_photos, run_config

from refusion.errors import ConfigError
from refusion.restorers import load_restorer
from refusion.sde import OBJECTIVES, PREDICTIONS
from refusion.training import Trainer
from refusion.training.stages.diffusion import DiffusionStage

CPU = torch.device("cpu")
BRIDGES = [
    {"type": "GOUB", "max_sigma": 30, "T": 10},
    {"type": "UniDB", "max_sigma": 30, "T": 10, "gamma": 1e7},
]

INVERTIBLE = [name for name, prediction in PREDICTIONS.items() if prediction.target]


@pytest.mark.parametrize("sde", BRIDGES, ids=lambda sde: sde["type"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prediction", INVERTIBLE)
def test_loss_and_gradient_are_finite_at_every_time(tmp_path, sde, objective, prediction):
    changes = {"sde": sde, "prediction": prediction, "objective": {"type": objective}}
    stage = DiffusionStage(run_config("diffusion", tmp_path, tmp_path, **changes), CPU)
    lq, gt = torch.rand(2, 64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    generators = [torch.Generator().manual_seed(seed) for seed in range(64)]  # T among the times
    loss = stage.loss({"lq": lq, "gt": gt}, generators)["total"]
    loss.backward()
    assert math.isfinite(loss.item())
    grads = [p.grad for p in stage.module.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_a_sampler_that_does_not_suit_the_process_is_refused_before_training(tmp_path):
    changes = {"sde": BRIDGES[1], "sampling": {"sampler": "ode", "steps": 2}}
    config = run_config("diffusion", tmp_path, tmp_path, **changes)
    with pytest.raises(ConfigError, match=r"sampler: the steps .* do not converge for UniDB"):
        DiffusionStage(config, CPU)


@pytest.mark.parametrize("sde", BRIDGES, ids=lambda sde: sde["type"])
def test_a_trained_bridge_restores(tmp_path, sde):
    photos = make_photos(tmp_path / "photos")
    sampling = {"sampler": "mean", "steps": 2}
    config = run_config("diffusion", photos, tmp_path / "cache", sde=sde, sampling=sampling)
    trainer = Trainer(config, device=CPU, runs=tmp_path)
    trainer.train()
    restorer = load_restorer(trainer.model_file, device="cpu", precision="fp32")
    lq = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert restorer.restore(lq).isfinite().all()
    assert restorer.info.stochastic == (sde["type"] == "UniDB")
