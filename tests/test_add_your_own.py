"""docs/extending.md works as written, and no weights file imports a module on its own."""

import importlib
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tiny_models
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.cli import main
from refusion.config import config_from_dict, config_to_dict, find_table, load_config, plugins
from refusion.config.plugins import missing_plugins
from refusion.data import DATASETS
from refusion.errors import CheckpointError, ConfigError
from refusion.images.io import write_image
from refusion.metrics import METRICS, measure, reported_metrics
from refusion.nets import NETS
from refusion.operators import OPERATORS
from refusion.restorers import DDRM, RESTORERS, load_restorer
from refusion.restorers.ddrm.priors import Prior
from refusion.restorers.ddrm.problems import Problem
from refusion.sde import OBJECTIVES, PREDICTIONS, SAMPLERS, SDES, THETA_SCHEDULES, build_sde
from refusion.sde.grids import GRIDS
from refusion.synthesis.degradations import DEGRADATIONS
from refusion.training import Trainer
from refusion.training.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {
    name: text for text, name in re.findall(r"```(?:python|yaml)\n(# (\S+)\n.*?)```", PAGE, re.S)
}
SCIENCE = [SAMPLERS, SDES, THETA_SCHEDULES, OBJECTIVES, PREDICTIONS, GRIDS]
TABLES = [NETS, DATASETS, DEGRADATIONS, METRICS, RESTORERS, OPERATORS, STAGES, *SCIENCE]
MODULES = ("my_nets", "my_parts", "my_stage", "stranger")
SHORT = {"steps": 2, "optimizer": {"type": "Lion", "lr": 5e-4}, "validate_every": 2}
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the page and two photos; tables and modules are put back."""
    kept = [dict(table) for table in TABLES]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        image = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(seed))
        write_image(tmp_path / "photos" / f"{seed}.png", image, None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    importlib.invalidate_caches()
    yield tmp_path
    for table, before in zip(TABLES, kept, strict=True):
        table.clear()
        table.update(before)
    for name in MODULES:
        sys.modules.pop(name, None)


def command(*arguments):
    """Run `refusion` in a process of its own that finds modules in the current folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", str(ROOT)])}
    code = "import sys; from refusion.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )


def trained(plain, folder):
    """Train a config for two steps; the trainer."""
    trainer = Trainer(config_from_dict(plain), device=CPU, runs=folder / "runs")
    trainer.train()
    return trainer


def own_config(**changes):
    """The page's experiment for two steps, with the modules imported."""
    plain = yaml.safe_load(FILES["my_run.yml"]) | {"train": SHORT}
    return plain | {"plugins": ["my_nets", "my_parts", "my_stage"]} | changes


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


def with_plugins(folder, names, kind="pixel"):
    """A weights file of a built-in network whose stored config names plug-ins."""
    path = folder / "foreign.safetensors"
    tiny_models.save(kind, path)
    return renamed(path, plugins=names)


def renamed(path, **changes):
    """Change a weights file's stored config without checks, as anybody can."""
    with safe_open(path, "pt") as file:
        head = json.loads(file.metadata()["refusion"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    head["config"] |= changes
    save_file(tensors, path, metadata={"refusion": json.dumps(head)})
    return path


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
    with pytest.raises(ConfigError, match="stage regression takes SwinIR, TinyRegression, got Tin"):
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


def test_reading_a_weights_file_imports_no_module_that_it_names(folder):
    path = renamed(with_plugins(folder, ["stranger"]), network={"type": "Unheard"})
    for read in (read_checkpoint, load_restorer):
        with pytest.raises(CheckpointError, match="needs the plug-in stranger, which is not"):
            read(path)
    assert main(["info", str(path)]) == 2
    assert "stranger" not in sys.modules and not Path("ran").exists()
    with pytest.raises(CheckpointError, match="unknown type 'Unheard'"):
        load_restorer(path, plugins=["stranger"])
    assert Path("ran").exists()


def test_a_weights_file_that_is_readable_without_its_plugin_loads_and_imports_nothing(folder):
    restorer = load_restorer(with_plugins(folder, ["stranger"]), device="cpu")
    assert restorer.info.family == "Refusion"
    assert "stranger" not in sys.modules


@pytest.mark.parametrize("name", ["a b", "../x", "x;y", "", "a..b", "1a", "x" * 201, "\x1b[2J", 5])
def test_a_name_that_is_no_module_name_is_refused_everywhere(folder, parts, name):
    with pytest.raises(CheckpointError, match="plugins"):
        read_checkpoint(with_plugins(folder, [name]))
    with pytest.raises(ConfigError, match="plugins"):
        config_from_dict(own_config(plugins=[name]))
    with pytest.raises(ConfigError, match="plugins: expected a module name"):
        plugins.import_plugins([name])


def test_stored_configs_of_runs_import_nothing(folder):
    with pytest.raises(ConfigError, match="unknown type 'TinyNet'"):
        config_from_dict(own_config())
    assert not {"my_nets", "my_parts"} & set(sys.modules)
    assert missing_plugins(["my_nets", "json"]) == ["my_nets"]


def test_the_environment_variable_allows_modules(folder, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "my_nets, my_parts")
    assert {"TinyNet", "TinyRegression"} <= set(find_table("nets"))
    monkeypatch.setenv(plugins.VARIABLE, "not_there")
    with pytest.raises(ConfigError, match=f"^{plugins.VARIABLE}: plugins: module not_there cannot"):
        find_table("nets")


def test_entry_points_are_imported_at_the_first_look_up(folder, monkeypatch, caplog):
    points = [
        metadata.EntryPoint(name, value, plugins.GROUP)
        for name, value in (("good", "my_nets"), ("bad", "not_there"))
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    plugins._import_installed.cache_clear()
    try:
        assert "Fade" in find_table("degradations")
        assert "plug-in bad (not_there) cannot be imported" in caplog.text
    finally:
        monkeypatch.undo()
        plugins._import_installed.cache_clear()


def test_an_experiment_file_that_names_no_list_of_modules_or_one_that_is_not_there(folder):
    with pytest.raises(ConfigError, match=r"^my_run.yml: plugins: expected a list such as .*'x'"):
        load_config("my_run.yml", ["plugins=x"])
    with pytest.raises(
        ConfigError, match=r"^my_run.yml: plugins: module not_there cannot be .*PYTHON"
    ):
        load_config("my_run.yml", ["plugins.0=not_there"])


def test_models_without_plugins_are_stored_as_before(tmp_path, tiny_checkpoint):
    model = read_checkpoint(tiny_checkpoint("pixel")).model
    assert "plugins" not in config_to_dict(model)
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, model, read_checkpoint(tiny_checkpoint("pixel")).tensors, {})
    with safe_open(path, "pt") as file:
        assert "plugins" not in json.loads(file.metadata()["refusion"])["config"]


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
