"""Exported networks: the results of PyTorch at any size, and what the files say."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx_cases import MODELS, checkpoint_of

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import CheckpointError, ConfigError, RefusionError
from refusion.export import export_model, exporting
from refusion.export.description import runtime_plan
from refusion.export.exporting import compare
from refusion.export.graphs import graphs_of
from refusion.files import sha256_of
from refusion.nets.layers import reflected_indices
from refusion.nets.nafnet_blocks import ChannelPool, window_means
from refusion.weights import FOLDER, find_weights

SMALL = [(5, 9), (34, 50)]


FAST = ("pixel", "denoise", "unet", "blind", "dark", "window")
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]
PARTS = ["network", "fine_encode", "coarse_encode", "coarse_decode", "fine_decode"]


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_pytorch(tmp_path, name):
    checkpoint = checkpoint_of(tmp_path, MODELS[name])
    written = export_model(checkpoint, tmp_path / "model.onnx")
    graphs = graphs_of(build_model(checkpoint))
    parts = [each.part for each in written]
    assert parts == [graph.part for graph in graphs] == [part for part in PARTS if part in parts]
    files = ["model.onnx", *(f"model.{part}.onnx" for part in parts[1:])]
    assert [each.path.name for each in written] == files
    # Networks for stereo pairs have a fixed minimum size.
    sizes = SMALL[1:] if "stereo" in name else SMALL
    for each, graph in zip(written, graphs, strict=True):
        found = [*each.differences, *compare(each.path, graph, sizes)]
        assert len(found) == 3 + len(sizes)
        assert all(size.largest <= 1e-5 * max(1, size.value) for size in found)
        assert all(size.value > 0.01 for size in found)


def test_file_describes_itself(tmp_path):
    checkpoint = checkpoint_of(tmp_path, MODELS["pixel"])
    export_model(checkpoint, tmp_path / "model.onnx", opset=19, steps=4, sampler="sde-data-2")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    texts = {each.key: each.value for each in model.metadata_props}
    assert texts["task"] == "test" and texts["prediction"] == "x0_residual"
    assert json.loads(texts["process"])["type"] == "IRSDE"
    assert texts["normalisation"].startswith("RGB in 0..1") and "licence" in texts
    description = json.loads(texts["refusion"])
    assert description["config"]["network"]["width"] == 8
    assert len(description["runtime"]["process"]["tables"][0]["rows"]) == 4
    assert model.opset_import[0].version == 19
    sides = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides[2:] == ["height", "width"]


def test_float16_halves_the_file_and_keeps_weights_of_16_bits(tmp_path):
    checkpoint = checkpoint_of(tmp_path, MODELS["pixel"])
    (wide,) = export_model(checkpoint, tmp_path / "wide.onnx")
    (narrow,) = export_model(checkpoint, tmp_path / "narrow.onnx", storage="float16")
    weights = [sum(len(t.raw_data) for t in onnx.load(each.path).graph.initializer)
               for each in (wide, narrow)]  # fmt: skip
    assert weights[1] < 0.6 * weights[0]
    assert narrow.differences == wide.differences  # the file of the weights has 16 bits, too


def test_float16_does_not_round_what_is_computed_from_weights(tmp_path):
    checkpoint = checkpoint_of(tmp_path, MODELS["dark"])  # its scales by the time are constants
    files = [(tmp_path / f"{storage}.onnx", storage) for storage in ("float32", "float16")]
    wide, narrow = (export_model(checkpoint, path, storage=how)[0] for path, how in files)
    assert narrow.differences == wide.differences


def test_float16_refuses_large_weights(tmp_path):
    checkpoint = checkpoint_of(tmp_path, MODELS["pixel"])
    checkpoint.tensors["network.intro.weight"] = (
        checkpoint.tensors["network.intro.weight"].float() + 1e5
    )
    with pytest.raises(CheckpointError, match="above 65504"):
        export_model(checkpoint, tmp_path / "model.onnx", storage="float16")
    assert not (tmp_path / "model.onnx").exists()


def test_linked_weights_are_those_of_the_weights_file(tmp_path):
    checkpoint = checkpoint_of(tmp_path, MODELS["blind"])
    (found,) = export_model(checkpoint, tmp_path / "model.onnx", storage="linked")
    assert all(each.largest < 1e-5 for each in found.differences)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    linked = [t for t in model.graph.initializer if t.external_data]
    places = {each.value for t in linked for each in t.external_data if each.key == "location"}
    assert len(linked) > 10 and places == {"model.safetensors"}
    (graph,) = graphs_of(build_model(checkpoint))
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        compare(found.path, graph)


def test_linked_weights_must_be_beside_the_file(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="must be written to the folder"):
        export_model(
            checkpoint_of(tmp_path, MODELS["pixel"]),
            tmp_path / "other" / "model.onnx",
            storage="linked",
        )


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("model.txt", {}, "ends in .onnx"),
        ("model.onnx", {"opset": 16}, "opset: expected 17 to 20, got 16"),
        ("model.onnx", {"steps": 1000}, "steps: expected 1..100"),
        ("model.onnx", {"sampler": "magic"}, "unknown sampler 'magic'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, output, options, message):
    with pytest.raises(ConfigError, match=message):
        export_model(checkpoint_of(tmp_path, MODELS["pixel"]), tmp_path / output, **options)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_file_with_other_results_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", 1e-12)
    with pytest.raises(RefusionError, match="differs from that of PyTorch"):
        export_model(checkpoint_of(tmp_path, MODELS["pixel"]), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(RefusionError, match=r"pip install 'refusion\[onnx\]'"):
        export_model(checkpoint_of(tmp_path, MODELS["pixel"]), tmp_path / "model.onnx")


SHIPPED = sorted(path.stem for path in FOLDER.glob("*.onnx"))


def test_tasks_have_shipped_files():
    assert {"dehaze", "deshadow", "denoise", "blind"} <= set(SHIPPED)


@pytest.mark.parametrize("task", SHIPPED)
def test_shipped_file_fits_weights_and_code(task):
    """If this fails: refusion export --task NAME --link-weights -o refusion/weights/NAME.onnx."""
    model = onnx.load(FOLDER / f"{task}.onnx", load_external_data=False)
    (text,) = (each.value for each in model.metadata_props if each.key == "refusion")
    description, checkpoint = json.loads(text), read_checkpoint(find_weights(task))
    plan = runtime_plan(build_model(checkpoint), None, None)
    assert description["runtime"] == json.loads(json.dumps(plan))
    assert description["info"] == checkpoint.info
    assert description["weights"] == sha256_of(checkpoint.path)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (40, 3), (9, 9)])
@pytest.mark.parametrize("border", [0, 4, 16])
def test_reflection_by_indices_is_that_of_padding(size, border):
    image = torch.rand(1, 2, *size)
    sides = [reflected_indices(length, border, border + 1) for length in size]
    found = image[..., sides[0], :][..., sides[1]]
    reflected = [min(border, n - 1) for n in size], [min(border + 1, n - 1) for n in size]
    expected = F.pad(image, (reflected[0][1], reflected[1][1], reflected[0][0], reflected[1][0]),
                     mode="reflect")  # fmt: skip
    rest = [border - n for n in reflected[0]], [border + 1 - n for n in reflected[1]]
    expected = F.pad(expected, (rest[0][1], rest[1][1], rest[0][0], rest[1][0]), mode="replicate")
    assert torch.equal(found, expected)


@pytest.mark.parametrize("window", [1, 4, 5, 100])
def test_window_means_are_those_of_the_channel_pool(window):
    image = torch.rand(1, 3, 11, 23)
    pool = ChannelPool()
    pool.window = window
    found = window_means(window_means(image, window, -2), window, -1)
    assert np.allclose(found, pool(image).expand_as(image), atol=1e-6)
