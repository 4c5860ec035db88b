"""Frames of one colour are found, and plain parts of photos are not taken for them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from refusion.images.frame import WHOLE, Area, inside_frame


def scene(height=96, width=128, seed=0):
    """A photo (H, W, 3) uint8 with values from 60 to 200 that change from pixel to pixel."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (12, 16, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def box(photo):
    """Begin and end of the rows and of the columns inside, in pixels."""
    height, width = photo.shape[:2]
    area = inside_frame(photo.transpose(2, 0, 1))
    return [round(x * height) for x in area.rows] + [round(x * width) for x in area.columns]


def framed(photo, border, colour):
    return np.asarray(ImageOps.expand(Image.fromarray(photo), border, colour))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (20, 40, 230)])
@pytest.mark.parametrize(
    "border", [(1, 1, 1, 1), (30, 30, 30, 30), (0, 20, 0, 20), (0, 0, 0, 9), (40, 0, 0, 3)]
)
def test_a_frame_is_found_to_the_pixel(border, colour):
    left, top, right, bottom = border
    photo = framed(scene(), border, colour)
    height, width = photo.shape[:2]
    assert box(photo) == [top, height - bottom, left, width - right]
    sixteen = photo.astype(np.uint16) * 257
    assert inside_frame(sixteen.transpose(2, 0, 1)) == inside_frame(photo.transpose(2, 0, 1))
    floats = (photo / np.float32(255)).transpose(2, 0, 1)
    assert inside_frame(floats) == inside_frame(photo.transpose(2, 0, 1))


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_compressed_frame_is_cut_off_whole(quality):
    buffer = io.BytesIO()
    Image.fromarray(framed(scene(160, 200), 40, (0, 0, 0))).save(buffer, "JPEG", quality=quality)
    top, bottom, left, right = box(np.asarray(Image.open(buffer)))
    # No line of the frame is left, and at most a block of the photo is lost.
    assert 40 <= top <= 48 and 200 - 8 <= bottom <= 200
    assert 40 <= left <= 48 and 240 - 8 <= right <= 240


def test_a_frame_in_a_frame():
    photo = framed(framed(scene(), 2, (0, 0, 0)), 25, (255, 255, 255))
    assert box(photo) == [27, 123, 27, 155]


def test_a_frame_around_a_wall_half_in_shade():
    wall = np.full((96, 128, 3), 200, np.uint8)
    wall[:, 64:] = 100
    assert box(wall) == [0, 96, 0, 128]
    assert box(framed(wall, 30, (0, 0, 0))) == [30, 126, 30, 158]


def test_plain_parts_of_a_photo_are_no_frame():
    sky = scene()
    sky[:30] = (235, 240, 245)
    sky[30:60] = np.linspace(235, 120, 30)[:, None, None]  # the sky goes over into the land
    product = np.full((96, 128, 3), 255, np.uint8)
    product[30:70, 40:90] = scene(40, 50)
    night, columns = scene(), np.arange(128)
    night[np.arange(96)[:, None] < 40 + columns // 3] = 0  # a slope below a black sky
    plane = np.full((96, 128, 3), (120, 160, 220), np.uint8)
    plane[60:70, 10:90] = 40  # a wide thing before a plain sky
    for photo in (scene(), sky, product, night, plane, np.full((64, 64, 3), 7, np.uint8)):
        assert inside_frame(photo.transpose(2, 0, 1)) == WHOLE


def test_too_little_inside_is_no_frame():
    assert inside_frame(framed(scene(20, 20), 60, (0, 0, 0)).transpose(2, 0, 1)) == WHOLE
    for size in ((1, 1), (1, 40), (40, 1), (3, 3)):
        photo = np.zeros((3, *size), np.uint8)
        photo[..., -1] = 200
        assert inside_frame(photo) == WHOLE


def test_an_area_is_a_view_of_any_size():
    area, photo = Area((0.25, 0.75), (0.5, 1.0)), np.arange(64).reshape(1, 8, 8)
    assert np.array_equal(area.of(photo), photo[:, 2:6, 4:])
    assert np.shares_memory(area.of(photo), photo)
    assert area.of(np.zeros((2, 1, 4, 2))).shape == (2, 1, 2, 1)
    assert area.of(np.zeros((1, 1, 1))).size == 1  # never empty
    assert Area((0.75, 1.0), (0.9, 1.0)).of(np.zeros((1, 1, 2))).size == 1
    assert WHOLE.of(photo).shape == photo.shape
