"""Previews without a page: what is shown of a photo, and the result for every strength."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from app_cases import ICC, photo_16

from refusion.app.maps import disparity_maps, lacks_map, write_map_picture
from refusion.app.preview import SIDE, ShownPhoto, blends, preview_key, run_preview
from refusion.app.values import Settings
from refusion.batch.disparity_maps import DisparityMaps
from refusion.batch.options import RestoreOptions
from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.samples import to_float
from refusion.restorers import load_restorer

HALF = RestoreOptions(strength=0.5, seed=3)


@pytest.fixture
def shown(tmp_path):
    return ShownPhoto.read(photo_16(tmp_path / "a.png", 60, 80), 10_000)


def restorer_of(tiny_checkpoint, kind):
    return load_restorer(tiny_checkpoint(kind), device="cpu", precision="fp32")


def nothing():
    """A check that never stops."""


def test_a_large_photo_is_shown_reduced_and_in_part(tmp_path):
    image = torch.zeros(3, 600, 3000)
    image[:, 250:350, 1450:1550] = 1
    write_image(tmp_path / "a.png", image)
    shown = ShownPhoto.read(tmp_path / "a.png", 10_000_000)
    assert shown.size == (3000, 600)
    assert shown.whole.samples.shape == shown.detail.samples.shape == (3, 205, SIDE)
    assert shown.whole.samples.dtype == shown.detail.samples.dtype == torch.uint8
    share = 100 * 100 / (600 * 3000)
    assert to_float(shown.whole.samples).mean() == pytest.approx(share, rel=0.05)
    assert torch.equal(
        shown.detail.samples[0, 102 - 49 : 102 + 49, SIDE // 2].unique(),
        torch.tensor([255], dtype=torch.uint8),
    )


def test_a_small_photo_is_shown_as_it_is(shown, tmp_path):
    photo = read_image(tmp_path / "a.png")
    assert (to_float(shown.whole.samples) - photo.image).abs().max() < 0.003
    assert torch.equal(shown.whole.samples, shown.detail.samples)
    assert shown.whole.icc == ICC


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_errors_name_no_folders(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"^a\.png: ") as caught:
        ShownPhoto.read(path, 100)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ImageError, match=r"^b\.png: 80x60 .*limit"):
        ShownPhoto.read(photo_16(tmp_path / "b.png", 60, 80), 100)


@pytest.mark.parametrize("kind", ["pixel", "latent", "haze", "blind"])
def test_the_preview_is_what_the_model_does(shown, tiny_checkpoint, kind):
    """One run is enough for all strengths of the models that blend."""
    restorer = restorer_of(tiny_checkpoint, kind)
    assert blends(restorer.info) == (kind != "latent")
    kept = run_preview(Path("a.png"), shown.whole, restorer, HALF, nothing)
    inside = (kept.result > 0) & (kept.result < 1) if kind != "haze" else slice(None)
    strengths = (0.5, 0.2, 1.0) if blends(restorer.info) else (0.5,)
    for strength in strengths:
        options = replace(HALF, strength=strength)
        own = restorer.restore(shown.whole.samples[None], strength=strength, seed=3)[0]
        picture = kept.picture(options)
        difference = (to_float(picture.samples) - to_float(own))[inside]  # others are clamped
        assert difference.abs().max() < 0.006
        assert (to_float(picture.samples) - to_float(shown.whole.samples)).abs().max() > 0.01
    assert kept.photo.samples.shape == picture.samples.shape


def test_the_key_names_all_that_the_network_depends_on(tiny_checkpoint):
    pixel, latent = (restorer_of(tiny_checkpoint, kind).info for kind in ("pixel", "latent"))
    for change in ({"steps": 2}, {"seed": 4}, {"maps": DisparityMaps(Path("a"), 160, -18)}):
        assert preview_key(pixel, HALF) != preview_key(pixel, replace(HALF, **change))
    stronger = replace(HALF, strength=1)
    assert preview_key(pixel, HALF) == preview_key(pixel, stronger)
    assert preview_key(latent, HALF) != preview_key(latent, stronger)


def test_a_preview_stops(shown, tiny_checkpoint):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_preview(Path("a"), shown.whole, restorer_of(tiny_checkpoint, "pixel"), HALF, stop)


def test_super_resolution_is_shown_beside_the_enlarged_photo(shown, tiny_checkpoint):
    kept = run_preview(Path("a"), shown.whole, restorer_of(tiny_checkpoint, "sr"), HALF, nothing)
    assert kept.photo.samples.shape == kept.picture(HALF).samples.shape == (3, 120, 160)


def settings_of(*photos, maps=()):
    return Settings(tuple(photos), "bokeh", RestoreOptions(max_pixels=5000), None, maps, 1.8, None)


def test_maps_belong_to_photos(tmp_path):
    photos = [photo_16(tmp_path / name, 30, 40) for name in ("a.png", "b.png")]
    (tmp_path / "maps").mkdir()
    maps = [photo_16(tmp_path / "maps" / name, 30, 40) for name in ("a.png", "b.png", "c.png")]
    assert disparity_maps(photos[0], settings_of(photos[0], maps=maps[2:])).place == maps[2]
    assert disparity_maps(photos[1], settings_of(*photos, maps=maps)).place == maps[1]
    for settings, message in (
        (settings_of(*photos, maps=maps[:1]), "b.png: expected one depth map with the name b"),
        (settings_of(photos[1]), "b.png: has no depth map of its own"),
        (settings_of(photos[1], maps=[maps[0], maps[2]]), "depth map: expected one map"),
    ):
        with pytest.raises(ImageError, match=f"^{message}"):
            disparity_maps(photos[1], settings)
    assert lacks_map(photos[0], settings_of(photos[0]))
    assert not lacks_map(photos[0], settings_of(photos[0], maps=maps[:1]))


def test_a_map_is_drawn_over_the_full_range_and_within_limits(tmp_path):
    photo, place = photo_16(tmp_path / "a.png", 30, 40), tmp_path / "map.png"
    write_image(place, torch.linspace(0.4, 0.6, 40).expand(3, 30, 40))
    drawn = read_image(write_map_picture(photo, settings_of(photo, maps=(place,)), tmp_path))
    assert (drawn.mode, drawn.samples.min().item(), drawn.samples.max().item()) == ("gray", 0, 255)
    write_image(place, torch.zeros(3, 100, 100))
    with pytest.raises(ImageError, match="limit"):
        write_map_picture(photo, settings_of(photo, maps=(place,)), tmp_path)
    with pytest.raises(ImageError, match=r"^map\.png: more than 0\.005 million"):
        disparity_maps(photo, settings_of(photo, maps=(place,)))
