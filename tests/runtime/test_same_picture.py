"""The runtime restores photos as PyTorch does in float32, up to one level of 255."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import checkpoint_of
from PIL import Image
from tiny_models import BLIND, CONFIGS, DENOISING, DIFFUSION, HAZE, PIXEL

from refusion import load_restorer
from refusion.errors import CheckpointError, ConfigError, RefusionError
from refusion.export import export_model
from refusion.haze_options import HazeOptions
from refusion.restorers import Conditions
from refusion.restorers.base import NO_CONDITIONS
from refusion.runtime import find_model, load_model
from refusion.runtime.engines import missing

EXAMPLE = Path(__file__).parents[2] / "examples" / "hazy-coast.jpg"


def photo(width, height, noise=0.0):
    pixels = np.asarray(Image.open(EXAMPLE).resize((width, height)), np.float64)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0
    return pixels.clip(0, 255).astype(np.uint8)


def differences(restorer, model, image, tile="auto", conditions=NO_CONDITIONS, **options):
    expected = restorer(image, tile=tile, conditions=conditions, **options).astype(int)
    given = {"haze": conditions.haze, "noise_std": conditions.noise_std}
    found = model(image, **given, **options)
    assert found.dtype == image.dtype and found.shape == image.shape
    assert np.abs(expected - image).max() > 3, "the model changes nothing, so this shows nothing"
    return np.abs(found.astype(int) - expected).max()


TINY = {
    "haze": (HAZE, {}),
    "haze copy": (HAZE, {"process_side": 100}),
    "copy": ({"network": PIXEL, **DIFFUSION}, {"process_side": 48}),
    "change": ({"network": PIXEL, **DIFFUSION}, {"process_side": 48, "change_limits": [0.01, 0.1]}),
    "shadow": (
        {"network": PIXEL, **DIFFUSION},
        {"process_side": 48, "change_limits": [0.01, 0.1], "shadow_limits": [0.5, 5.0]},
    ),
    "noise": ({"network": PIXEL, **DIFFUSION}, {"sampler": "sde-data-2@log_snr", "steps": 4}),
    "denoise": (CONFIGS["denoise"] | DENOISING, {"sampler": "mean", "steps": 2}),
    "blind": (BLIND, {}),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    made = {}

    def models(name):
        if name not in made:
            config, sampling = TINY[name]
            checkpoint = checkpoint_of(tmp_path_factory.mktemp(name), config, **sampling)
            path = checkpoint.path.with_suffix(".onnx")
            export_model(checkpoint, path)
            restorer = load_restorer(checkpoint.path, device="cpu", precision="fp32")
            made[name] = restorer, load_model(path, threads=1)
        return made[name]

    return models


@pytest.mark.parametrize("name", ["haze copy", "copy", "denoise", "blind"])
def test_photos_in_a_frame(tiny, name):
    restorer, model = tiny(name)
    image = np.zeros((140, 180, 3), np.uint8)
    image[20:-20, 30:-30] = photo(120, 100, noise=25) // 2 + 60
    assert differences(restorer, model, image) <= 1
    if name in ("haze copy", "copy"):
        found = model(image)
        assert not found[:20].any() and not found[:, -30:].any()


@pytest.mark.parametrize("name", ["haze copy", "copy"])
def test_a_plain_part_in_a_frame(tiny, name):
    restorer, model = tiny(name)
    image, values = np.zeros((140, 180, 3), np.uint8), np.random.default_rng(0)
    image[20:-20, 30:-30] = values.integers(128, 134, (100, 120, 3))  # one colour, and its noise
    np.testing.assert_array_equal(model(image), image)
    image[20:-20, 30:-30] = values.integers(128, 145, (100, 120, 3))
    assert np.abs(model(image).astype(int) - restorer(image)).max() <= 1


@pytest.mark.parametrize("name", TINY)
def test_tiny_models(tiny, name):
    image = photo(130, 97, noise=12.0)
    assert differences(*tiny(name), image) <= 1
    assert differences(*tiny(name), image, strength=0.6, seed=3) <= 1


@pytest.mark.parametrize("name", ["haze", "copy", "denoise"])
def test_other_samples(tiny, name):
    restorer, model = tiny(name)
    deep = photo(90, 61, noise=12.0).astype(np.uint16) * 257
    assert differences(restorer, model, deep) <= 257
    values = deep / np.float32(65535)
    assert np.abs(model(values) - restorer(values)).max() < 1e-3


HAZE_OPTIONS = {
    "distance": HazeOptions(distance=0.6),
    "colour": HazeOptions(airlight=(0.7, 0.8, 0.9)),
    "stops": HazeOptions(exposure=-0.5),
    "auto": HazeOptions(airlight=(0.9, 0.95, 1.0), exposure="auto"),
    "all": HazeOptions(distance=0.8, airlight=(0.6, 0.7, 0.7), exposure="auto"),
}


@pytest.mark.parametrize("size", [(90, 61), (130, 97)])  # the network sees the photo, or a copy
@pytest.mark.parametrize("name", HAZE_OPTIONS)
def test_options_of_haze(tiny, name, size):
    restorer, model = tiny("haze copy")
    image, haze = photo(*size), HAZE_OPTIONS[name]
    conditions = Conditions(haze=haze)
    assert differences(restorer, model, image, conditions=conditions) <= 1
    assert differences(restorer, model, image, conditions=conditions, strength=-0.5) <= 1
    assert np.abs(model(image, haze=haze).astype(int) - model(image)).max() > 3


def test_no_haze_is_removed_up_to_distance_0(tiny):
    image = photo(90, 61)
    assert np.array_equal(tiny("haze")[1](image, haze=HazeOptions(distance=0)), image)


@pytest.mark.parametrize("size", [(90, 61), (130, 97)])
def test_map_of_the_haze(tiny, size):
    restorer, model = tiny("haze copy")
    image = photo(*size)
    expected = 1 - restorer.decompose(image).transmission
    found = model.decompose(image.transpose(2, 0, 1)).amount(image.transpose(2, 0, 1))[0]
    assert found.max() > 0.2 and np.abs(found - expected.reshape(found.shape)).max() < 1e-4


@pytest.mark.parametrize("level", [12.3, 30, 69.9, 70])
def test_noise_levels(tiny, level):
    image = photo(130, 97, noise=12.0)
    how = {"conditions": Conditions(noise_std=level / 255)}
    assert differences(*tiny("denoise"), image, **how) <= 1


@pytest.mark.parametrize("level", [0, 0.5])  # below that where a photo counts as one without noise
def test_small_noise_levels_are_used(tiny, level):
    (restorer, model), image = tiny("denoise"), photo(130, 97, noise=12.0)
    values, std = image / np.float32(255), level / 255
    expected = restorer(values, conditions=Conditions(noise_std=std))
    found = model(values, noise_std=std)
    assert 0 < np.abs(found - values).max() < 0.01
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected - values).max()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("denoise", {"noise_std": 0.5}, "noise level: expected 0..70 8-bit levels, .* got 127.5"),
        ("denoise", {"noise_std": -0.1}, "noise level: expected"),
        ("blind", {"noise_std": 0.1}, "noise level: the 'blind' model does not use it"),
        ("blind", {"haze": HazeOptions(0.5)}, "haze: the 'blind' model does not use it"),
    ],
)
def test_options_that_do_not_suit_the_model(tiny, name, options, message):
    with pytest.raises(ConfigError, match=message):
        tiny(name)[1](photo(20, 20), **options)


def test_a_model_that_finds_no_haze_has_no_decomposition(tiny):
    with pytest.raises(ConfigError, match="does not predict it"):
        tiny("blind")[1].decompose(photo(20, 20).transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["denoise", "blind"])
def test_tiles(tiny, name):
    restorer, model = tiny(name)
    model._plan["tile"] = 64
    assert differences(restorer, model, photo(150, 111, noise=12.0), tile=64) <= 1
    model._plan["tile"] = 1024


def test_photos_of_no_more_pixels_than_a_tile_are_not_cut(tiny, monkeypatch):
    restorer, model = tiny("blind")
    sizes, run = [], model._engine.run
    monkeypatch.setitem(model._plan, "tile", 64)
    monkeypatch.setattr(
        model._engine, "run", lambda names, x: sizes.append(x["photo"].shape) or run(names, x)
    )
    assert differences(restorer, model, photo(100, 40, noise=12.0), tile=None) <= 1
    assert sizes == [(1, 3, 40, 100)]
    model(photo(100, 42))
    assert len(sizes) > 2 and max(sizes[-1]) < 100


@pytest.mark.parametrize("name", ["haze", "copy", "denoise"])
def test_photos_without_structure_and_strength_0(tiny, name):
    _, model = tiny(name)
    flat = np.full((20, 30, 3), 180, np.uint8)
    assert np.array_equal(model(flat), flat)
    image = photo(40, 30)
    assert np.array_equal(model(image, strength=0), image)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (50, 1)])
@pytest.mark.parametrize("name", ["haze", "change", "denoise", "blind"])
def test_tiny_photos(tiny, name, size):
    image = photo(*size, noise=40.0)
    assert tiny(name)[1](image).shape == image.shape


@pytest.mark.parametrize("task", ["dehaze", "deshadow", "denoise", "blind"])
def test_shipped_models(task):
    size, noise = ((420, 300), 0.0) if task == "dehaze" else ((144, 104), 15.0)
    image = photo(*size, noise=noise)
    if task == "blind":  # noise of single pixels alone is left to the model for noise
        image = photo(*size, noise=40.0)
        image = image[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    if task == "deshadow":  # a shadow over a part of the photo
        image[:, 60:] = image[:, 60:] * 0.4
    restorer = load_restorer(task, device="cpu", precision="fp32")
    assert differences(restorer, load_model(task), image) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["dehaze", "deshadow"])
def test_shipped_models_on_a_large_photo(task):
    image = photo(1392, 1044)
    image[50:250, 300:900] = image[50:250, 300:900] * 0.5
    restorer = load_restorer(task, device="cpu", precision="fp32")
    assert differences(restorer, load_model(task), image) <= 1


def test_errors_of_a_call(tiny):
    _, model = tiny("copy")
    with pytest.raises(ConfigError, match=r"strength: expected 0..1 for 'test', got 1.5"):
        model(photo(20, 20), strength=1.5)
    with pytest.raises(RefusionError, match="three channels"):
        model(np.zeros((4, 5, 4), np.uint8))


def test_values_that_are_not_finite_are_an_error(tiny, monkeypatch):
    _, model = tiny("copy")

    class Engine:
        inputs = ("state", "mu", "time")

        def run(self, names, given):
            return [np.full((1, 3, 20, 20), np.nan, np.float32)]

    monkeypatch.setattr(model, "_engine", Engine())
    with pytest.raises(RefusionError, match="not finite"):
        model(photo(20, 20))


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such ONNX file.*did you mean"):
        find_model("dehase")
    (tmp_path / "wrong.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="cannot be loaded as an ONNX file"):
        load_model(tmp_path / "wrong.onnx")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_model(tmp_path)


def test_files_of_others_and_of_networks_alone_are_refused(tmp_path):
    import onnx

    checkpoint = checkpoint_of(tmp_path, CONFIGS["sr"])
    export_model(checkpoint, tmp_path / "sr.onnx")
    with pytest.raises(CheckpointError, match="needs PyTorch"):
        load_model(tmp_path / "sr.onnx")
    model = onnx.load(tmp_path / "sr.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(CheckpointError, match="not written by 'refusion export'"):
        load_model(tmp_path / "other.onnx")


class _OtherGraph:
    """An engine whose outputs do not suit the photo."""

    inputs = ("state", "mu", "time")

    def __init__(self, output):
        self.output = output

    def run(self, names, given):
        return [self.output for _ in names]


@pytest.mark.parametrize(
    "output",
    [np.zeros((1, 3, 1, 1), np.float32), np.zeros((1, 3, 64, 64)), np.array(["text"]), ["text"]],
    ids=["size", "type", "texts", "list"],
)
def test_outputs_that_do_not_suit_the_photo_are_refused(tiny, monkeypatch, output):
    model = tiny("change")[1]
    monkeypatch.setattr(model, "_engine", _OtherGraph(output))
    photo = np.arange(3 * 64 * 64, dtype=np.uint32).reshape(3, 64, 64).astype(np.uint8)
    with pytest.raises(RefusionError, match="another shape or type"):
        model.restore(photo)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("refusion.runtime.engines.is_installed", lambda package: False)
    with pytest.raises(RefusionError) as caught:
        load_model("dehaze")
    assert str(caught.value) == missing("onnxruntime")
