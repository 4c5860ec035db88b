"""Models that predict haze: haze and scene of a photo, for every strength from one run."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError
from refusion.images.io import write_image
from refusion.restorers import Conditions, HazeOptions, Refusion, load_restorer
from refusion.restorers.refusion import decomposition
from refusion.restorers.refusion.decomposition import Decomposition, brighten
from refusion.sde.scattering import Scattering
from refusion.tiling import guided

SIZES = [(1, 1), (1, 9), (50, 1), (3, 200), (30, 40), (60, 80)]
KEEP = HazeOptions(exposure=0.0)


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint):
    return load_restorer(tiny_checkpoint("haze"), device="cpu", precision="fp32")


def scene(height, width, batch=1, seed=0):
    """Smooth photos (B, 3, H, W) in [0, 1]."""
    rough = torch.rand(batch, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)


def levels(photo, dtype=torch.uint8):
    full = 255 if dtype == torch.uint8 else 65535
    return (photo.double() * full).round().to(torch.int32).to(dtype)


def haze_of(tau, airlight=0.8, photo=None):
    """Haze of a photo, from the optical depth of every pixel of a small copy."""
    tau = torch.as_tensor(tau)[None, None]
    copy = torch.full((1, 3, *tau.shape[-2:]), 0.5) if photo is None else photo
    return Decomposition(copy, Scattering(tau, torch.full_like(copy, airlight)))


def test_the_formula_of_haze_is_inverted():
    """A photo that is made by the formula gives the scene that it was made of."""
    truth, airlight = scene(40, 60) * 0.7, torch.tensor([0.9, 0.85, 0.8]).view(1, 3, 1, 1)
    tau = torch.full((1, 1, 40, 60), 0.9)
    photo = truth * torch.exp(-tau) + airlight * (1 - torch.exp(-tau))
    found = Decomposition(photo, Scattering(tau, airlight))
    torch.testing.assert_close(found.clear(photo), truth, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.airlight, airlight.flatten(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.transmission(photo), torch.exp(-tau))
    half = truth * torch.exp(-tau / 2) + airlight * (1 - torch.exp(-tau / 2))
    torch.testing.assert_close(found.clear(photo, 0.5), half, atol=1e-6, rtol=0)
    misty = truth * torch.exp(-2 * tau) + airlight * (1 - torch.exp(-2 * tau))
    torch.testing.assert_close(found.clear(photo, -1.0), misty, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [HazeOptions(), KEEP, HazeOptions(0.4, (0.7, 0.8, 0.9), 0.5)])
@pytest.mark.parametrize("strength", [-1.5, 0.3, 1, 2])
def test_the_same_as_a_restoration_without_another_run(restorer, monkeypatch, strength, options):
    for photo in (scene(60, 80), levels(scene(60, 80)), levels(scene(20, 30), torch.uint16)):
        split = restorer.decompose(photo)
        expected = restorer.restore(photo, strength=strength, conditions=Conditions(haze=options))
        monkeypatch.setattr(torch.nn.Conv2d, "forward", None)  # no network runs any more
        chosen = (options.distance, options.airlight, options.exposure)
        assert torch.equal(split.clear(strength, *chosen), expected)
        monkeypatch.undo()
        assert not torch.equal(expected, photo)


def test_kind_and_dtype_of_the_image_are_kept(restorer):
    array = levels(scene(60, 80))[0].permute(1, 2, 0).numpy()
    for image in (array, array.astype(np.uint16) * 257, array / 255, array[..., 0],
                  np.dstack([array, array[..., :1]])):  # fmt: skip
        split = restorer.decompose(image)
        found = split.clear(0.7)
        assert (type(found), found.dtype, found.shape) == (np.ndarray, image.dtype, image.shape)
        assert (split.transmission.shape, split.airlight.shape) == ((60, 80), (3,))
        assert np.array_equal(split.clear(0), image)
    picture = restorer.decompose(Image.fromarray(array))
    assert picture.clear().size == (80, 60)
    assert isinstance(picture.transmission, np.ndarray)
    one, many = restorer.decompose(scene(60, 80)[0]), restorer.decompose(scene(60, 80, 2))
    assert (one.clear().shape, one.transmission.shape, one.airlight.shape) == (
        (3, 60, 80), (1, 60, 80), (3,),
    )  # fmt: skip
    assert (many.transmission.shape, many.airlight.shape) == ((2, 1, 60, 80), (2, 3))
    assert 0 < many.transmission.min() <= many.transmission.max() <= 1
    assert repr(picture).startswith("ArrayDecomposition(80x60, mean transmission 0.")


@pytest.mark.parametrize("size", SIZES)
def test_every_size(restorer, size):
    photo = levels(scene(*size))
    split = restorer.decompose(photo)
    for strength in (-2, 0.5, 2):
        result = split.clear(strength, 0.5, exposure="auto")
        assert (result.shape, result.dtype) == (photo.shape, torch.uint8)
    assert split.transmission.shape == (1, 1, *size)


def test_photos_of_a_batch_do_not_depend_on_each_other(restorer):
    photos = torch.cat([scene(60, 80, 2), torch.full((1, 3, 60, 80), 0.4)])
    for photo in (photos, levels(photos)):
        split = restorer.decompose(photo)
        together = split.clear(1.2, 0.6, exposure="auto")
        for number in range(3):
            alone = restorer.decompose(photo[number]).clear(1.2, 0.6, exposure="auto")
            atol = 2e-5 if photo.is_floating_point() else 1
            torch.testing.assert_close(together[number], alone, atol=atol, rtol=0)
        assert torch.equal(together[2], photo[2])


def test_bands_give_the_same_as_the_whole(restorer, monkeypatch):
    photo = scene(60, 80)
    split = restorer.decompose(photo)
    results = []
    for band in (1, 500, 10**6):
        monkeypatch.setattr(guided, "_BAND", band)
        results.append((split.clear(exposure="auto"), split.transmission))
    for result, transmission in results[1:]:
        torch.testing.assert_close(result, results[0][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(transmission, results[0][1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_strength_or_distance_0_is_the_photo_bit_for_bit(restorer, dtype):
    photo = scene(60, 80) if dtype == torch.float32 else levels(scene(60, 80), dtype)
    split, before = restorer.decompose(photo), photo.clone()
    for exposure in (0, "auto", 2):
        for found in (
            split.clear(0, exposure=exposure),
            split.clear(1.5, 0, exposure=exposure),
            restorer(photo, strength=0, conditions=Conditions(haze=HazeOptions(exposure=exposure))),
        ):
            assert found.dtype == dtype and torch.equal(found, photo)
            assert found.data_ptr() != photo.data_ptr()
    assert torch.equal(photo, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_a_photo_without_haze_is_returned_bit_for_bit(restorer, monkeypatch, dtype):
    monkeypatch.setattr(decomposition, "NO_HAZE", 0.98)
    monkeypatch.setattr(decomposition, "HAZE", 0.99)
    photo = scene(60, 80) if dtype == torch.float32 else levels(scene(60, 80), dtype)
    split = restorer.decompose(photo)
    assert not split.haze.has_haze.any()
    assert bool((split.transmission == 1).all())
    for strength in (-1, 0.5, 1, 2):
        for exposure in (0, "auto", 3):
            assert torch.equal(split.clear(strength, exposure=exposure), photo)


def test_haze_begins_gradually(tiny_checkpoint, monkeypatch):
    """There is no jump between a photo without haze and one with little haze."""
    model, photo = build_model(read_checkpoint(tiny_checkpoint("haze"))), scene(60, 80)
    restorer, found = Refusion(model), []
    amount = 1 - restorer.decompose(photo).scattering.transmission.mean().item()
    for share in (1.01, 0.99, 0.5):
        monkeypatch.setattr(decomposition, "NO_HAZE", amount * share)
        monkeypatch.setattr(decomposition, "HAZE", 2 * amount * share)
        found.append(restorer.decompose(photo).scattering.tau.mean().item())
    assert found[0] == 0 < found[1] < 0.05 < found[2]


def test_depth_scale_multiplies_the_optical_depth(tiny_checkpoint):
    model, photo = build_model(read_checkpoint(tiny_checkpoint("haze"))), scene(60, 80)
    scaled = replace(
        model,
        config=replace(model.config, sampling=replace(model.config.sampling, depth_scale=1.3)),
    )
    plain, more = (Refusion(each).decompose(photo).scattering for each in (model, scaled))
    torch.testing.assert_close(more.tau, 1.3 * plain.tau)
    assert torch.equal(more.airlight, plain.airlight)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 120, 200)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_one_colour_stays(restorer, colour, dtype):
    for size in ((1, 1), (5, 7), (60, 80)):
        photo = levels((torch.tensor(colour) / 255).view(1, 3, 1, 1).expand(1, 3, *size), dtype)
        split = restorer.decompose(photo)
        for strength in (-2, 1, 2):
            assert torch.equal(split.clear(strength, exposure="auto"), photo)


def test_every_pixel_moves_one_way_with_the_strength(restorer):
    split = restorer.decompose(scene(60, 80))
    results = [split.clear(s / 4, exposure=0.0) for s in range(-8, 9)]
    steps = torch.stack([b - a for a, b in pairwise(results)])
    assert bool(((steps >= 0).all(0) | (steps <= 0).all(0)).all())
    assert float(steps.abs().amax((1, 2, 3)).min()) > 0


def test_distance_keeps_the_haze_behind_a_plane():
    tau = torch.linspace(0, 2, 64).expand(48, 64)
    photo = scene(48, 64)
    haze = haze_of(tau, photo=photo)
    whole, half = haze.clear(photo), haze.clear(photo, 1.0, HazeOptions(distance=0.5))
    assert torch.equal(haze.clear(photo, 1.0, HazeOptions(distance=1.0)), whole)
    assert torch.equal(half[..., :32], whole[..., :32])
    removed = haze_of(tau.clamp_max(1.0), photo=photo).clear(photo)
    torch.testing.assert_close(half, removed)
    assert not torch.equal(half[..., 40:], whole[..., 40:])


def test_a_given_airlight_replaces_that_of_the_model():
    photo, colour = scene(60, 80), (0.6, 0.7, 0.9)
    haze = haze_of(torch.full((24, 32), 0.5), airlight=0.95)
    found = haze.clear(photo, 1.0, HazeOptions(airlight=colour))
    amount = torch.exp(torch.tensor(0.5))
    given = torch.tensor(colour).view(1, 3, 1, 1)
    torch.testing.assert_close(found, (photo - given) * amount + given, atol=1e-5, rtol=0)


def test_exposure_keeps_black_and_white_and_is_monotone():
    image = torch.linspace(0, 1, 1001)
    for stops in (-4, -0.5, 0, 0.3, 4):
        curve = brighten(image, 2 ** (stops / 2.2))
        assert (curve[0], curve[-1]) == (0, 1)
        assert bool((curve.diff() > 0).all())
        assert (curve[500] > 0.5) == (stops > 0)
    assert torch.equal(brighten(image, 1.0), image)


def test_the_look_of_a_photo_gives_the_same_result_with_numbers(restorer):
    photo, other = scene(60, 80), scene(60, 80, seed=1)
    options = HazeOptions(distance=0.7, exposure="auto")
    haze = restorer.decompose(photo).haze
    look = haze.look(1.3, options)
    colour = tuple(haze.airlight[0].tolist())
    assert (look.distance, look.airlight) == (0.7, colour)
    automatic = haze.clear(photo, 1.3, HazeOptions(0.7, colour, "auto"))
    torch.testing.assert_close(haze.clear(photo, 1.3, look), automatic)
    assert look != restorer.decompose(other).haze.look(1.3, options)
    given = haze.look(1.0, HazeOptions(airlight=(0.5, 0.5, 0.5), exposure=1.0))
    assert given == HazeOptions(airlight=(0.5, 0.5, 0.5), exposure=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 2.1}, r"strength: expected -2\.\.2, got 2.1"),
        ({"strength": float("nan")}, r"strength: expected -2\.\.2, got nan"),
        ({"distance": 1.2}, "distance: expected a number from 0 to 1, got 1.2"),
        ({"distance": "far"}, "distance: expected a number from 0 to 1, got 'far'"),
        ({"airlight": (0.5, 0.5)}, r"airlight: expected red, green and blue from 0 to 1, or "),
        ({"airlight": (200, 210, 220)}, r"airlight: expected .*got \(200, 210, 220\)"),
        ({"airlight": "white"}, "airlight: expected .*got 'white'"),
        ({"exposure": -5}, "exposure: expected 'auto' or stops from -4 to 4, got -5"),
        ({"exposure": "bright"}, "exposure: expected 'auto' or stops from -4 to 4, got 'bright'"),
        ({"exposure": True}, "exposure: expected"),
    ],
)
def test_wrong_values_are_one_line(restorer, values, message):
    split = restorer.decompose(scene(10, 10))
    with pytest.raises(ConfigError, match=message) as error:
        split.clear(**values)
    assert "\n" not in str(error.value)


def test_an_airlight_can_be_an_array(restorer):
    split = restorer.decompose(scene(10, 12)[0].permute(1, 2, 0).numpy())
    assert np.array_equal(split.clear(airlight=split.airlight),
                          split.clear(airlight=tuple(split.airlight.tolist())))  # fmt: skip


@pytest.mark.parametrize("kind", ["latent", "pixel", "blind", "unet"])
def test_other_models_are_refused(tiny_checkpoint, kind):
    other = load_restorer(tiny_checkpoint(kind), device="cpu", precision="fp32")
    assert not other.info.predicts_haze
    with pytest.raises(ConfigError, match="decompose: needs a model with the prediction 'scatt"):
        other.decompose(scene(10, 10))
    for strength in (1.5, -1):
        with pytest.raises(ConfigError, match=r"expected 0\.\.1, .*only a model that predicts haz"):
            other.restore(scene(10, 10), strength=strength)


def test_values_that_are_not_finite_are_an_error(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint("haze")))
    torch.nn.init.constant_(model.network.ending.bias, float("nan"))
    with pytest.raises(Exception, match="gave values that are not finite"):
        Refusion(model).decompose(scene(10, 10))


def test_a_model_without_reduced_copies(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint("haze")))
    sampling = replace(model.config.sampling, process_side=None)
    restorer = Refusion(replace(model, config=replace(model.config, sampling=sampling)))
    photo = levels(scene(40, 50))
    haze = restorer.decompose(photo)
    assert haze.copy.shape == photo.shape
    assert torch.equal(haze.clear(photo), restorer.restore(photo))


def test_the_code_of_the_page_runs(tiny_checkpoint, tmp_path):
    page = (Path(__file__).parents[2] / "docs/using.md").read_text(encoding="utf-8")
    code = (
        page.partition("In Python `decompose`")[2].partition("```python\n")[2].partition("```")[0]
    )
    write_image(tmp_path / "a.png", scene(40, 60)[0])
    names = {"WEIGHTS": tiny_checkpoint("haze"), "PHOTO": tmp_path / "a.png"}
    exec(code.replace('"dehaze"', "WEIGHTS"), names)
    assert names["clear"].shape == names["half"].shape == names["misty"].shape == (3, 40, 60)
    assert not torch.equal(names["clear"], names["half"])


def test_haze_ends_at_the_edges_of_the_photo(tiny_checkpoint, monkeypatch):
    """A map that is blurred at an edge would leave a band of haze beside a dark object."""
    model = build_model(read_checkpoint(tiny_checkpoint("haze")))
    sampling = replace(model.config.sampling, process_side=192)
    model = replace(model, config=replace(model.config, sampling=sampling))
    photo = torch.full((1, 3, 192, 192), 0.7)
    photo[..., 96:] = 0.1
    photo += 0.02 * torch.rand(photo.shape, generator=torch.Generator().manual_seed(0))
    ramp = (torch.arange(192) - 95.5).div(4).sigmoid().expand(1, 1, 192, 192)
    found = Scattering(1 - 0.9 * ramp, torch.full((1, 3, 1, 1), 0.9))
    last = SimpleNamespace(scattering=found)
    monkeypatch.setattr(decomposition, "run_process", lambda *_: (None, last))
    before, after = found.tau[0, 0, 96], Refusion(model).decompose(photo).scattering.tau[0, 0, 96]
    for side in (slice(0, 94), slice(98, 192)):
        assert after[side].diff().abs().max() < 0.5 * before[side].diff().abs().max()
    assert after[94] - after[97] > 2 * (before[94] - before[97])


@pytest.mark.parametrize("strength", ["1", None, True, float("nan"), 2.5, torch.ones(2)])
def test_a_strength_that_is_no_number_in_range_is_an_error(restorer, strength):
    split = restorer.decompose(scene(20, 30))
    with pytest.raises(ConfigError, match=r"^strength: expected -2\.\.2, got "):
        split.clear(strength)
