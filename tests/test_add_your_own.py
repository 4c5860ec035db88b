"""docs/extending.md works as written: every component of a plug-in can be used."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from plugin_cases import (
    FILES,
    ROOT,
    TABLES,
    command,
    own_config,
    page_folder,
)

from refusion.checkpoint import read_checkpoint
from refusion.config import config_from_dict, load_config
from refusion.errors import ConfigError
from refusion.metrics import measure, reported_metrics
from refusion.operators import OPERATORS
from refusion.restorers import DDRM, load_restorer
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import Problem
from refusion.sde import PREDICTIONS, SAMPLERS, build_sde
from refusion.sde.grids import GRIDS
from refusion.training import Trainer

CPU = torch.device("cpu")
folder = pytest.fixture(page_folder)


def trained(plain, folder):
    """Train a config for two steps; the trainer."""
    trainer = Trainer(config_from_dict(plain), device=CPU, runs=folder / "runs")
    trainer.train()
    return trainer


@pytest.fixture
def parts(folder):
    """The modules of the page, imported."""
    return [importlib.import_module(name) for name in ("my_nets", "my_parts", "my_stage")]


def regression(**changes):
    absent = dict.fromkeys(("sde", "prediction", "sampling"))
    own = {
        "stage": "regression",
        "network": {"type": "TinyRegression"},
        "objective": {"type": "x0"},
    }
    return own_config(**absent | own | changes)


def test_the_worked_example_trains_and_restores_in_one_process(folder):
    assert set(FILES) == {"my_nets.py", "my_run.yml", "my_parts.py", "my_stage.py"}
    config = load_config("my_run.yml", ["train.steps=2", "train.validate_every=2"])
    trainer = Trainer(config, device=CPU, runs="runs")
    scores = trainer.train()
    assert 0 < scores["photos/restored/mae"] < 1
    assert {"photos/restored/psnr", "photos/restored/ssim"} <= set(scores)
    restorer = load_restorer(trainer.model_file, device="cpu", plugins=["my_nets"])
    assert (restorer.info.family, restorer.info.sampler) == ("Refusion", "mean_path")
    photo = torch.rand(3, 20, 30)
    assert restorer(photo).shape == photo.shape
    assert not torch.equal(restorer(photo), photo)


def test_the_worked_example_trains_and_restores_by_the_command_line(folder):
    done = command("train", "-opt", "my_run.yml", "--set", "train.steps=2", "--quiet")
    assert done.returncode == 0, done.stderr
    weights = ["restore", "--weights", "runs/my_run/model.safetensors", "--input", "photos"]
    refused = command(*weights, "--output", "out")
    assert refused.returncode == 2
    assert "needs the plug-in my_nets" in refused.stderr and "--plugin my_nets" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = command(*weights, "--output", "out", "--plugin", "my_nets")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png"]


def test_the_page_s_metric_is_measured_and_stated(folder):
    before = dict(reported_metrics())
    importlib.import_module("my_nets")
    image = torch.rand(3, 16, 16)
    assert measure(image, image)["mae"] == pytest.approx(0, abs=1 / 255)
    stated = reported_metrics(4)["mae"].stated
    assert stated == "RGB, data range 1 (255 levels), border of 4 px cut"
    assert set(reported_metrics()) == {*before, "mae"}  # on RGB only


def test_a_sampler_of_one_s_own_takes_every_grid(parts):
    assert SAMPLERS["mean_path"].step is parts[0].mean_path_step
    assert "mean_path@karras" in SAMPLERS and "mean_path" in list(SAMPLERS)
    assert SAMPLERS["mean_path@karras"].grid is GRIDS["karras"]
    assert "mean_pat" not in SAMPLERS


def test_dataset_sde_schedule_objective_and_prediction(folder, parts):
    stripes = {"type": "Stripes", "patch": 16}
    sets = {"train": stripes, "validation": [{"name": "s", **stripes, "length": 2}]}
    plain = own_config(
        sde={"type": "QuadraticSDE", "max_sigma": 50},
        objective={"type": "charbonnier", "width": 0.01},
        prediction="x0",
        data=sets | {"batch_size": 2, "workers": 0},
    )
    trainer = trained(plain, folder)
    assert "s/restored/mae" in trainer.scores
    assert load_restorer(trainer.model_file, device="cpu")(torch.rand(3, 9, 9)).shape == (3, 9, 9)
    sde = build_sde(plain["sde"])
    assert torch.equal(sde.theta, parts[1].quadratic_theta(100))
    x0, noise, mu = torch.rand(3, 1, 3, 4, 4, dtype=torch.float64)
    xt = sde.sample_marginal(x0, mu, 30, noise)
    found = PREDICTIONS["x0"].estimate(
        sde, PREDICTIONS["x0"].target(sde, x0, noise, mu, 30), xt, mu, 30
    )
    torch.testing.assert_close(found.noise, noise)
    other = trained(
        plain | {"name": "linear", "sde": {**plain["sde"], "schedule": "linear"}}, folder
    )
    assert other.config.sde.settings["schedule"] == "linear"


def test_regression_network_and_restorer(folder, parts):
    trainer = trained(regression(), folder)
    checkpoint = read_checkpoint(trainer.model_file)
    assert checkpoint.model.plugins == ("my_nets", "my_parts", "my_stage")
    restorer = load_restorer(checkpoint, device="cpu")
    assert (restorer.info.family, restorer.info.steps) == ("Mirrored", 0)
    photo = torch.rand(1, 3, 12, 10)
    mirrored = restorer.restore(photo.flip(-1)).flip(-1)
    torch.testing.assert_close(restorer.restore(photo), mirrored)
    del parts[1].TinyRegression.restorer
    assert load_restorer(checkpoint, device="cpu").info.family == "Regression"
    parts[1].TinyRegression.restorer = "Mirored"
    with pytest.raises(ConfigError, match="unknown restorer 'Mirored'; did you mean 'Mirrored'"):
        load_restorer(checkpoint, device="cpu")


def test_regression_networks_and_stages_belong_together(parts):
    known = "NAFNet, SwinIR, TinyRegression"
    with pytest.raises(ConfigError, match=f"stage regression takes {known}, got Tin"):
        config_from_dict(regression(network={"type": "TinyNet"}))
    with pytest.raises(ConfigError, match="stage diffusion takes no TinyRegression"):
        config_from_dict(own_config(network={"type": "TinyRegression"}))


def test_training_stage(folder, parts):
    plain = regression(stage="emphasis")
    assert config_from_dict(plain).stage == "emphasis"
    assert trained(plain, folder).model_file.is_file()
    with pytest.raises(ConfigError, match="stage: unknown value 'emphasi'"):
        config_from_dict(regression(stage="emphasi"))


def test_operator(parts):
    operator = OPERATORS["Dim"]((3, 8, 8))
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(operator.forward(x), x / 2)
    torch.testing.assert_close(operator.pinv(x / 2), x)
    alpha_bar = torch.linspace(1, 0.01, 101, dtype=torch.float64)
    prior = Prior(lambda xt, t: torch.zeros_like(xt), alpha_bar, None, 2, CPU, "fp32")
    restorer = DDRM(prior, Problem("dim", OPERATORS["Dim"]), sigma=0.0)
    restored = restorer.restore(x[:1] / 2)
    torch.testing.assert_close(restored, x[:1], atol=0.01, rtol=0)


def test_the_table_of_contributing_names_tables_that_can_be_added_to():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+? \| `(refusion/\S+?)/` \| (.+?) \|", text, re.M)
    named = {
        name: getattr(importlib.import_module(folder.replace("/", ".")), name)
        for folder, names in rows
        for name in re.findall(r"`([A-Z_]+)`", names)
    }
    assert all(isinstance(table, dict) for table in named.values())
    assert {id(table) for table in named.values()} == {id(table) for table in TABLES}
