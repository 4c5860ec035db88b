"""The haze of the last photo of a tab, which the sliders of the page act on."""

import pytest
import torch
from app_cases import ICC, photo_16

from refusion.app.haze import KeepingRestorer, KeptHaze
from refusion.app.preview import write_pictures
from refusion.app.restoring import restore_photo
from refusion.app.values import EXPOSURES, checked_haze, checked_options
from refusion.batch.options import RestoreOptions
from refusion.errors import ConfigError
from refusion.images.io import read_image
from refusion.images.photo import Photo
from refusion.restorers import Conditions, HazeOptions, load_restorer


@pytest.fixture
def restorer(tiny_checkpoint):
    return load_restorer(tiny_checkpoint("haze"), device="cpu", precision="fp32")


@pytest.fixture
def photo():
    rough = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(rough, (60, 80), mode="bicubic").clamp(0, 1)


def kept(restorer, photo):
    return KeptHaze.of(restorer.decompose(photo).haze, Photo(photo[0], icc=ICC))


def pictures(shown, folder, strength, haze):
    """Both pictures of the page, as they are read from their files."""
    options = RestoreOptions(strength=strength, conditions=Conditions(haze=haze))
    return map(read_image, write_pictures(shown.photo, shown.picture(options), folder))


def test_the_kept_haze_gives_the_same_photo_without_the_network(restorer, photo, monkeypatch):
    first = KeepingRestorer(restorer, None)
    conditions = Conditions(haze=HazeOptions(distance=0.6, exposure="auto"))
    for lq in (photo, (photo * 255).round().byte()):
        expected = restorer.restore(lq, strength=1.4, conditions=conditions)
        first.haze = None
        assert torch.equal(first.restore(lq, strength=1.4, conditions=conditions), expected)
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.Conv2d, "forward", None)
            again = KeepingRestorer(restorer, KeptHaze(first.haze, None))
            assert torch.equal(again.restore(lq, strength=1.4, conditions=conditions), expected)
            assert not torch.equal(again.restore(lq, strength=0.5), expected)
    assert first.info == restorer.info


def test_the_file_is_that_of_a_restoration(restorer, tmp_path, monkeypatch):
    """The file in full quality does not depend on whether the haze was kept."""
    path, files = photo_16(tmp_path / "a.png", 60, 80), []
    options = RestoreOptions(strength=0.7, conditions=Conditions(haze=HazeOptions(exposure="auto")))
    keeping = KeepingRestorer(restorer, None)
    for number, model in enumerate((restorer, keeping, keeping)):
        if number == 2:
            monkeypatch.setattr(torch.nn.Conv2d, "forward", None)
        folder = tmp_path / str(number)
        folder.mkdir()
        done = restore_photo(path, "haze", model, options, folder, lambda *_: None)
        files.append(done.files[0].read_bytes())
    assert files[0] == files[1] == files[2]
    assert done.shown.samples.shape == (3, 60, 80)


def test_the_preview_shows_the_photo_and_the_scene(restorer, photo, tmp_path):
    shown = kept(restorer, photo)
    assert shown.photo.samples.dtype == torch.uint8
    options = HazeOptions(distance=0.5)
    before, after = pictures(shown, tmp_path, 1.5, options)
    lq = shown.photo.samples[None]
    expected = restorer.decompose(photo).haze.clear(lq, 1.5, options)
    assert (after.image - expected[0] / 255).abs().mean() < 0.01  # JPEG
    assert (before.image - photo[0]).abs().mean() < 0.01
    assert (after.image - before.image).abs().mean() > 0.02
    assert before.icc == after.icc == ICC


def test_the_preview_is_the_result_reduced(restorer, photo, tmp_path):
    """The haze of the whole photo is used for the copy, so both show the same."""
    large = torch.nn.functional.interpolate(photo, (240, 320), mode="bicubic").clamp(0, 1)
    shown = KeptHaze.of(restorer.decompose(large).haze, Photo(photo[0]))
    after = list(pictures(shown, tmp_path, 1.0, HazeOptions()))[1].image
    whole = torch.nn.functional.interpolate(restorer.restore(large), (60, 80), mode="area")[0]
    assert (after - whole).abs().mean() < 0.02


def test_values_of_the_fields(restorer, tiny_checkpoint):
    info = restorer.info
    assert checked_haze(None, None, info) == HazeOptions()
    assert checked_haze(0.5, "auto", info) == HazeOptions(distance=0.5, exposure="auto")
    assert checked_haze(1, "-0.5 EV", info) == HazeOptions(exposure=-0.5)
    assert [checked_haze(1, name, info).exposure for name in EXPOSURES] == list(EXPOSURES.values())
    other = load_restorer(tiny_checkpoint("latent"), device="cpu").info
    assert checked_haze(0.5, "auto", other) == HazeOptions()
    haze = HazeOptions(distance=0.5)
    options = checked_options(0, -1.5, 0, 1, 7, info.strengths, haze)
    assert (options.strength, options.conditions) == (-1.5, Conditions(haze=haze))


@pytest.mark.parametrize("distance", [-0.1, 1.1, float("nan"), "1", True, [1]])
def test_wrong_distances_are_refused(restorer, distance):
    with pytest.raises(ConfigError, match=r"^distance: expected a number from 0 to 1, got"):
        checked_haze(distance, "keep", restorer.info)


@pytest.mark.parametrize("exposure", ["bright", "", 1, ["auto"], {}])
def test_wrong_exposures_are_refused(restorer, exposure):
    with pytest.raises(ConfigError, match=r"^exposure: expected one of auto, keep, -2 EV, "):
        checked_haze(1, exposure, restorer.info)


def test_a_strength_of_the_model_is_needed(restorer):
    with pytest.raises(ConfigError, match=r"^strength: expected a number from -2 to 2, got 2.5"):
        checked_options(0, 2.5, 0, 1, 7, restorer.info.strengths)
