"""What a bokeh model is told of a photo and its map, and large discs on a smaller copy."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from refusion.batch.disparity_maps import BLUR, DisparityMaps, fitted_bands
from refusion.errors import ImageError
from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.optics.defocus import LARGEST, blur_radius, decode_defocus
from refusion.restorers.bokeh_renderer import MAX_RADIUS

SHAPE = (60, 80)
SUBJECT = (slice(20, 60), slice(28, 56))


def scene(rows=SHAPE[0], columns=SHAPE[1]):
    """Photo, uint8, of a bright subject before a dark background with grain, and its disparity."""
    near = torch.zeros(SHAPE)
    near[SUBJECT] = 1
    near = F.interpolate(near[None, None], (rows, columns), mode="nearest")[0]
    grain = 0.1 * torch.rand(3, rows, columns, generator=torch.Generator().manual_seed(0))
    return ((0.2 + 0.6 * near + grain) * 255).to(torch.uint8), near[0]


def write(path, disparity, bits=16):
    image = (0.2 + 0.5 * disparity).expand(3, *disparity.shape)
    write_image(path, image, Photo(image, mode="gray", bit_depth=bits))
    return path


def fitted(defocus, photo):
    return torch.cat([band for _, band in fitted_bands(defocus, photo[None])])


@pytest.fixture
def maps(tmp_path):
    return DisparityMaps(write(tmp_path / "map.png", scene()[1]), 160.0, -14.0, blur=10.0)


def radii(conditioned):
    return LARGEST * (2 * conditioned.conditions.guide.float() / 65535 - 1).square()


def test_a_map_of_the_photos_size_is_taken_as_it_is(maps):
    photo, near = scene()
    conditioned = maps.conditioned(photo, Path("a.jpg"))
    assert torch.equal(conditioned.lq[0], photo)
    assert conditioned.conditions.lens.tolist() == [160.0, -14.0, 10.0]
    assert conditioned.conditions.guide.dtype == torch.uint16
    for radius, number in zip(radii(conditioned), (160.0, -14.0), strict=True):
        expected = (1 - near) * blur_radius(number, 10.0)
        torch.testing.assert_close(radius, expected, rtol=0, atol=0.01)
    result = torch.rand(3, *SHAPE)
    assert conditioned.at_full_size(result) is result
    assert float(
        replace(maps, blur=None).conditioned(photo, Path()).conditions.lens[2]
    ) == pytest.approx(BLUR * 80)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_small_map_gets_the_edges_of_the_photo(factor):
    photo, near = scene(240, 320)
    small = F.avg_pool2d(near[None, None], factor)[0, 0]
    found = fitted(small, photo)
    plain = F.interpolate(small[None, None], (240, 320), mode="bilinear")[0, 0]
    wrong, blurred = ((x - near).abs().mean() for x in (found, plain))
    assert wrong < 0.7 * blurred
    assert -1 <= float(found.min()) <= float(found.max()) <= 1


def test_a_large_map_is_averaged():
    photo, near = scene()
    large = near.repeat_interleave(3, 0).repeat_interleave(3, 1)
    torch.testing.assert_close(fitted(large, photo), near)


def test_larger_discs_are_worked_out_on_a_copy_in_which_they_fit(maps, caplog):
    photo, near = scene()
    with caplog.at_level(logging.WARNING):
        conditioned = replace(maps, blur=62.0).conditioned(photo, Path("a.jpg"))
    assert "radii up to 80 pixels, and the model was trained up to 40" in caplog.text
    assert conditioned.lq.shape == (1, 3, 30, 40)
    assert conditioned.conditions.guide.shape == (2, 30, 40)
    assert float(conditioned.conditions.lens[2]) == pytest.approx(31)  # half of the photo's
    assert float(radii(conditioned).max()) == pytest.approx(LARGEST, rel=0.03)
    # The model that changes nothing: where it is sharp the photo comes back, all detail included.
    result = conditioned.at_full_size(conditioned.lq[0])
    assert result.dtype == torch.uint8
    error = (result.int() - photo.int()).abs().float().mean(0)
    assert float(error[near == 1].max()) <= 1
    enlarged = F.interpolate(conditioned.lq, SHAPE, mode="bilinear")[0] * 255
    is_far = F.max_pool2d(near[None, None], 5, 1, 2)[0, 0] == 0
    lost = (result.float() - enlarged).abs().mean(0)[is_far]
    assert float(lost.max()) <= 1  # nothing finer than the copy is left of what is blurred
    assert float(error[is_far].mean()) > 3
    nothing = replace(maps, blur=62.0).conditioned(photo, Path("a.jpg"), 0.0)
    assert nothing.strength == 0 and torch.equal(nothing.at_full_size(conditioned.lq[0]), photo)


def test_in_between_it_is_a_lens_between(maps):
    """Radii go evenly from the source's to the target's, and the model renders that whole."""
    photo, _ = scene()
    source, target = radii(maps.conditioned(photo, Path())).amax(dim=(1, 2)).tolist()
    for share in (0.25, 0.5):
        conditioned = maps.conditioned(photo, Path(), share)
        expected = source + share * (target - source)
        assert float(radii(conditioned)[1].max()) == pytest.approx(expected, rel=1e-3)
        assert (
            conditioned.strength == 1 and float(conditioned.conditions.lens[1]) < 0
        )  # of the target's maker


def test_equal_lenses_lose_no_detail(maps):
    photo, _ = scene()
    conditioned = replace(maps, source=-14.0, blur=62.0).conditioned(photo, Path())
    assert float((conditioned.at_full_size(conditioned.lq[0]).int() - photo.int()).abs().max()) <= 1


def test_maps_of_a_folder_have_the_photos_stem(maps, tmp_path):
    photo, near = scene()
    place = tmp_path / "maps"
    place.mkdir()
    folder = replace(maps, place=place)
    write(place / "a.png", near)
    conditioned = folder.conditioned(photo, Path("in/a.jpg"))
    assert torch.equal(
        conditioned.conditions.guide, maps.conditioned(photo, Path()).conditions.guide
    )
    with pytest.raises(ImageError, match=r"in/b\.jpg: expected one disparity map 'b'.*found none"):
        folder.conditioned(photo, Path("in/b.jpg"))
    write(place / "a.tif", near)
    with pytest.raises(ImageError, match=r"found a\.png, a\.tif"):
        folder.conditioned(photo, Path("in/a.jpg"))


def test_a_map_of_another_photo_is_refused(maps):
    photo = torch.zeros(3, 80, 60, dtype=torch.uint8)
    with pytest.raises(ImageError, match="80x60 has another aspect ratio than the photo, 60x80"):
        maps.conditioned(photo, Path("a.jpg"))


def test_a_renderer_gets_the_relative_defocus_and_no_smaller_copy(maps):
    """Its discs are not limited to those of a network's training."""
    photo, near = scene()
    conditioned = replace(maps, rendered=True, blur=4 * LARGEST).conditioned(photo, Path("a.jpg"))
    assert torch.equal(conditioned.lq[0], photo)
    assert conditioned.conditions.lens.tolist() == [160.0, -14.0, 4 * LARGEST]
    guide = conditioned.conditions.guide
    assert guide.shape == (1, *SHAPE) and guide.dtype == torch.uint16
    torch.testing.assert_close(decode_defocus(guide)[0], 1 - near, rtol=0, atol=1e-3)
    half = replace(maps, rendered=True).conditioned(photo, Path("a.jpg"), 0.5)
    assert -160.0 < half.conditions.lens[1] < -14.0


def test_larger_discs_than_a_renderer_takes_are_rendered_on_a_copy(maps, caplog):
    photo, _ = scene()
    large = replace(maps, rendered=True, blur=2 * MAX_RADIUS * 14 / 18)
    conditioned = large.conditioned(photo, Path("a.jpg"))
    assert conditioned.lq.shape == (1, 3, 30, 40)
    assert float(conditioned.conditions.lens[2]) == pytest.approx(MAX_RADIUS * 14 / 18)
    assert "the renderer takes up to 256: it works on a copy of 40 pixels" in caplog.text


@pytest.mark.parametrize("blur", [1e6, 1e300])
def test_discs_for_which_a_copy_has_no_pixel_are_refused(maps, blur):
    with pytest.raises(ImageError, match=r"a.jpg: the blur discs .* give a smaller --blur"):
        replace(maps, rendered=True, blur=blur).conditioned(scene()[0], Path("a.jpg"))
