"""Which modules are imported as plug-ins, and what the user reads if one is not."""

import importlib
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tiny_models
import yaml
from plugin_cases import (
    FILES,
    command,
    own_config,
    page_folder,
    renamed,
    with_plugins,
)
from safetensors import safe_open

from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.cli import main
from refusion.config import config_from_dict, config_to_dict, find_table, load_config, plugins
from refusion.config.plugins import missing_plugins
from refusion.errors import CheckpointError, ConfigError
from refusion.nets import NETS
from refusion.restorers import load_restorer
from refusion.sde import SAMPLERS

folder = pytest.fixture(page_folder)


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
def test_a_name_that_is_no_module_name_is_refused_everywhere(folder, name):
    importlib.import_module("my_nets")
    with pytest.raises(CheckpointError, match="plugins"):
        read_checkpoint(with_plugins(folder, [name]))
    with pytest.raises(ConfigError, match="plugins"):
        config_from_dict(own_config(plugins=[name]))
    with pytest.raises(ConfigError, match="plugins: expected a module name"):
        plugins.import_plugins([name])


def test_long_lists_of_plugins_make_short_messages(folder, capsys):
    names = [f"absent{number}" for number in range(100)]
    path = renamed(with_plugins(folder, names), network={"type": "Unheard"})
    assert main(["info", str(path)]) == 2
    said = capsys.readouterr().err
    assert "needs the plug-ins absent0, absent1, absent2 and 97 more, which are not" in said
    assert len(said) < 400 + len(str(path))
    path = with_plugins(folder, names * 1000)
    with pytest.raises(
        CheckpointError, match="plugins: expected at most 100 module names, got 100"
    ):
        read_checkpoint(path)
    importlib.import_module("my_nets")
    with pytest.raises(ConfigError, match="plugins: expected at most 100 module names, got 101"):
        config_from_dict(own_config(plugins=[*names, "one_more"]))
    with pytest.raises(ConfigError) as caught:
        load_config("my_run.yml", ["plugins=" + "x" * 10**6])
    assert len(str(caught.value)) < 200


def test_a_text_instead_of_a_list_of_plugins_is_refused(folder):
    with pytest.raises(
        ConfigError, match="expected a list of module names, got the text 'my_nets'"
    ):
        load_restorer("dehaze", plugins="my_nets")


def test_models_without_plugins_are_stored_as_before(tmp_path, tiny_checkpoint):
    model = read_checkpoint(tiny_checkpoint("pixel")).model
    assert "plugins" not in config_to_dict(model)
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, model, read_checkpoint(tiny_checkpoint("pixel")).tensors, {})
    with safe_open(path, "pt") as file:
        assert "plugins" not in json.loads(file.metadata()["refusion"])["config"]


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


def test_a_module_that_ends_the_program_is_one_line_and_not_exit_code_0(
    folder, monkeypatch, capsys
):
    Path("stranger.py").write_text("import sys\nsys.exit(0)\n")
    message = "plugins: module stranger ended the program while it was imported"
    assert main(["info", "dehaze", "--plugin", "stranger"]) == 2
    assert main(["train", "-opt", "my_run.yml", "--set", "plugins.0=stranger"]) == 2
    monkeypatch.setenv(plugins.VARIABLE, "stranger")
    assert main(["info", "dehaze"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(message in line for line in said)
    assert said[1].startswith("refusion: error: my_run.yml: ")
    assert said[2].startswith(f"refusion: error: {plugins.VARIABLE}: ")


def test_entry_points_are_imported_at_the_first_look_up(folder, monkeypatch, caplog):
    points = [
        metadata.EntryPoint(name, value, plugins.GROUP)
        for name, value in (("good", "my_nets"), ("bad", "not_there"), ("ends", "stranger"))
    ]
    Path("stranger.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    plugins._import_installed.cache_clear()
    try:
        assert "Fade" in find_table("degradations")
        assert "plug-in bad (not_there) cannot be imported" in caplog.text
        assert "plug-in ends (stranger) cannot be imported: SystemExit" in caplog.text
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


def test_train_stores_the_plugins_of_the_option(folder):
    Path("own.yml").write_text(FILES["my_run.yml"].replace("plugins: [my_nets]\n", ""))
    short = ["--set", "train.steps=2", "--set", "train.validate_every=2", "--quiet"]
    done = command(
        "train", "-opt", "own.yml", *short, "--plugin", "my_nets", "--plugin", "my_parts"
    )
    assert done.returncode == 0, done.stderr
    stored = yaml.safe_load(Path("runs/my_run/config.yml").read_text(encoding="utf-8"))
    assert stored["plugins"] == ["my_nets", "my_parts"]
    with safe_open("runs/my_run/model.safetensors", "pt") as file:
        head = json.loads(file.metadata()["refusion"])
    assert head["config"]["plugins"] == ["my_nets", "my_parts"]


@pytest.fixture
def own_weights(folder):
    """A weights file of the page's network; this process forgets the module afterwards."""
    before = dict(NETS), dict(SAMPLERS)
    importlib.import_module("my_nets")
    network = {"type": "TinyNet"}
    own = {"task": "dehaze", "network": network, "plugins": ["my_nets"]}
    plain = tiny_models.CONFIGS["pixel"] | own
    tensors = {f"network.{k}": v for k, v in NETS["TinyNet"]().state_dict().items()}
    save_checkpoint(folder / "own.safetensors", plain, tensors, {})
    for table, entries in zip((NETS, SAMPLERS), before, strict=True):
        table.clear()
        table.update(entries)
    del sys.modules["my_nets"]
    return "own.safetensors"


@pytest.mark.parametrize("name", ["info", "average"])
def test_info_and_average_read_a_file_with_the_option_only(own_weights, capsys, name):
    more = [own_weights, "--output", "both.safetensors"] if name == "average" else []
    assert main([name, own_weights, *more]) == 2
    assert "needs the plug-in my_nets" in capsys.readouterr().err
    assert main([name, own_weights, *more, "--plugin", "my_nets"]) == 0


@pytest.mark.parametrize("way", ["variable", "options file"])
def test_the_sampler_of_a_plugin_is_accepted(folder, monkeypatch, capsys, way):
    test = ["test", "--sampler", "mean_path", "--device", "cpu", "--limit", "1"]
    tiny_models.save("pixel", "tiny.safetensors")
    data = ["--data", "a=photos", "--weights", "tiny.safetensors"]
    assert main([*test, *data]) == 2
    assert "--sampler: unknown" in capsys.readouterr().err
    if way == "variable":
        monkeypatch.setenv(plugins.VARIABLE, "my_nets")
        restore = ["restore", "--input", "photos", "--output", "out", "--quiet"]
        assert main([*restore, *data[2:], "--sampler", "mean_path", "--device", "cpu"]) == 0
        sys.modules.pop("my_nets")
        SAMPLERS.pop("mean_path")
    else:
        data = ["-opt", "my_run.yml", *data]
    assert main([*test, *data]) == 0
