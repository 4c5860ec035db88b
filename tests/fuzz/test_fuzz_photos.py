"""No photo file, however it is built, hangs, needs much memory or gives more than one line."""

import tempfile
from pathlib import Path

import file_builders as build
import pytest
from fuzzing import FUZZ, check_line, limits
from hypothesis import given

from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.size import count_pixels

pytestmark = pytest.mark.slow

MAX_PIXELS = 10_000


def check_reading(data, suffix):
    """Read a file; what can be read can be written in every format and read again."""
    with tempfile.TemporaryDirectory() as folder, limits():
        path = Path(folder, f"photo{suffix}")
        path.write_bytes(data)
        assert count_pixels(path) >= 0
        try:
            photo = read_image(path, max_pixels=MAX_PIXELS)
        except ImageError as error:
            check_line(error, path)
            return
        assert count_pixels(path) == photo.samples.shape[1] * photo.samples.shape[2]
        for kind in (".png", ".jpg", ".tif", ".webp"):
            result = Path(folder, f"result{kind}")
            write_image(result, photo.samples, photo)
            again = read_image(result)
            assert again.samples.shape == photo.samples.shape


@FUZZ
@given(build.damaged(build.pngs()))
def test_png_files(data):
    check_reading(data, ".png")


@FUZZ
@given(build.damaged(build.jpegs()))
def test_jpeg_files(data):
    check_reading(data, ".jpg")


@FUZZ
@given(build.damaged(build.webps()))
def test_webp_files(data):
    check_reading(data, ".webp")


@FUZZ
@given(build.damaged(build.tiffs()))
def test_tiff_files(data):
    check_reading(data, ".tif")
