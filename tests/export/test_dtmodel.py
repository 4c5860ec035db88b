"""Packages for darktable: their layout, their graph, and files that stay as they are."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx_cases import MODELS, NAFNET, checkpoint_of

from refusion import cli
from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError, RefusionError
from refusion.export import dtmodel, export_dtmodel, exporting
from refusion.export.local_graph import photo_graph
from refusion.weights import find_weights

BLIND = {"network": NAFNET, "task": "blind"}


@pytest.fixture
def blind(tmp_path):
    return checkpoint_of(tmp_path, BLIND)


def content(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_layout_is_that_of_the_format(tmp_path, blind):
    package = export_dtmodel(blind, tmp_path / "my-blind.dtmodel")
    assert (package.path, package.id) == (tmp_path / "my-blind.dtmodel", "my-blind")
    found = content(package.path)
    assert list(found) == ["my-blind/config.json", "my-blind/model.onnx"]
    config = json.loads(found["my-blind/config.json"])
    required = ["id", "name", "description", "task", "backend", "version"]
    assert all(type(config[key]) is str and config[key] for key in required)
    assert (config["id"], config["task"], config["backend"]) == ("my-blind", "denoise", "onnx")
    assert config["tiling"] is True and config["spatial_dims"] == ["height", "width"]
    assert all(type(text) is str for text in config["model_card"].values())
    tiles = config["attributes"]["input_sizes"]
    assert tiles == sorted(tiles, reverse=True) and min(tiles) > 2 * 64
    model = onnx.load_from_string(found["my-blind/model.onnx"])
    onnx.checker.check_model(model)
    (given,), (result,) = model.graph.input, model.graph.output
    for each in (given, result):
        sides = [d.dim_value or d.dim_param for d in each.type.tensor_type.shape.dim]
        assert sides == [1, 3, "height", "width"]
        assert each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert not any(each.external_data for each in model.graph.initializer)


@pytest.mark.slow
def test_equal_models_give_equal_files(tmp_path, blind):
    files = [export_dtmodel(blind, tmp_path / name / "a.dtmodel").path for name in "xy"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "storage"),
    [("denoise", "float32"), ("nafnet", "float16"), ("blind", "float32")],
)
def test_results_are_those_of_pytorch_at_any_size(tmp_path, name, storage):
    sampling = {"sampler": "mean"} if name == "denoise" else {}
    checkpoint = checkpoint_of(tmp_path, MODELS[name], **sampling)
    level = 20 / 255 if name == "denoise" else None
    path = export_dtmodel(checkpoint, tmp_path / "a.dtmodel", noise_std=level, storage=storage).path
    graph = photo_graph(build_model(checkpoint), level).module
    session = onnxruntime.InferenceSession(content(path)["a/model.onnx"])
    for height, width in [(1, 1), (7, 150), (64, 64), (150, 33)]:
        photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        (result,) = session.run(None, {session.get_inputs()[0].name: photo.numpy()})
        with torch.no_grad():
            expected = graph(photo).numpy()
        assert result.shape == expected.shape and 0 <= result.min() <= result.max() <= 1
        assert np.abs(result - expected).max() < 1e-5


def test_sides_that_are_fixed_at_the_start_as_in_darktable(tmp_path, blind):
    path = export_dtmodel(blind, tmp_path / "a.dtmodel").path
    options = onnxruntime.SessionOptions()
    for name in ("height", "width"):
        options.add_free_dimension_override_by_name(name, 160)
    session = onnxruntime.InferenceSession(content(path)["a/model.onnx"], options)
    assert session.get_outputs()[0].shape == session.get_inputs()[0].shape == [1, 3, 160, 160]


def test_the_sdk_accepts_a_package(tmp_path, blind):
    pytest.importorskip("dt_ai_sdk")
    from dt_ai_sdk.config import ModelConfig
    from dt_ai_sdk.package import package_model
    from dt_ai_sdk.validate import run_validation

    path = export_dtmodel(blind, tmp_path / "a.dtmodel").path
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "output")
    config = ModelConfig(id="a", name="", description="", task="", root_dir=tmp_path)
    run_validation(config)  # ends the program if it finds a fault
    assert list(content(package_model(config))) == list(content(path))


def test_a_shipped_model_says_where_it_comes_from():
    config = dtmodel._config(read_checkpoint(find_weights("blind")), "a", None)
    card = config["model_card"]
    assert card["license"] == "MIT" and "CC BY-SA" in card["training_data_license"]
    assert config["description"] == "Remove noise, blur and JPEG artifacts of unknown strength"


def test_a_model_of_a_user_gets_no_facts_of_shipped_ones(blind):
    assert set(dtmodel._config(blind, "a", None)["model_card"]) == {"scope", "notes"}
    named = replace(blind, info={"license": "CC0"})
    assert dtmodel._config(named, "a", None)["model_card"]["license"] == "CC0"


def test_the_level_is_in_the_name_and_the_notes(blind):
    config = dtmodel._config(blind, "a", 12.5 / 255)
    assert "12.5" in config["name"] and "12.5 of 255" in config["model_card"]["notes"]


@pytest.mark.parametrize("name", ["a.onnx", "a b.dtmodel", ".dtmodel", "-a.dtmodel", "ä.dtmodel"])
def test_names_that_darktable_cannot_use(tmp_path, blind, name):
    with pytest.raises(ConfigError, match="expected"):
        export_dtmodel(blind, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_file_is_replaced_only_when_asked(tmp_path, blind):
    path = tmp_path / "a.dtmodel"
    path.write_text("old")
    with pytest.raises(ConfigError, match="exists"):
        export_dtmodel(blind, path)
    assert path.read_text() == "old"
    export_dtmodel(blind, path, overwrite=True)
    assert zipfile.is_zipfile(path)


@pytest.mark.slow
def test_after_an_error_the_old_file_is_unchanged(tmp_path, blind, monkeypatch):
    path = tmp_path / "a.dtmodel"
    path.write_text("old")
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(RefusionError, match=r"a\.dtmodel: not written, its result differs"):
        export_dtmodel(blind, path, overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(dtmodel.zipfile.ZipFile, "writestr", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_dtmodel(blind, path, overwrite=True)
    assert path.read_text() == "old"
    assert {each.name for each in tmp_path.iterdir()} == {"a.dtmodel", "model.safetensors"}


@pytest.mark.slow
def test_command(tmp_path, blind, capsys):
    argv = ["export", str(blind.path), "--dtmodel", "-o", str(tmp_path / "a.dtmodel")]
    assert cli.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'a.dtmodel'}: model 'a' of the task denoise"
    assert len(lines) == 5 and "install it in darktable" in lines[4]
    assert cli.main(argv) == 2 and "overwrite with --force" in capsys.readouterr().err
    assert cli.main([*argv, "--force"]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dtmodel", "-o", "a.onnx"], "expected a name that ends in .dtmodel"),
        (["-o", "a.dtmodel"], "expected a name that ends in .onnx; for a package add --dtmodel"),
        (["-o", "a.onnx", "--noise-level", "5", "--force"], "--noise-level, --force: only for"),
        (["--dtmodel", "-o", "a.dtmodel", "--link-weights"], "--link-weights: a package holds"),
        (["--dtmodel", "-o", "a.dtmodel", "--noise-level", "-3"], "--noise-level"),
    ],
)
def test_options_that_do_not_suit(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", "--task", "blind", *argv])
    assert caught.value.code == 2 and message in capsys.readouterr().err
