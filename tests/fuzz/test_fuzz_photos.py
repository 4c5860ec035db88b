"""No photo file, however it is built, hangs, needs much memory or gives more than one line."""

import contextlib
import faulthandler
import os
import resource
import sys
import tempfile
from pathlib import Path

import file_builders as build
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.size import count_pixels

pytestmark = pytest.mark.slow

# REFUSION_FUZZ=N multiplies the number of files and makes them different in every run.
SCALE = int(os.environ.get("REFUSION_FUZZ", "0"))
EXAMPLES = 1500 * max(SCALE, 1)
SECONDS = 20  # per file, on the slowest machine
MEMORY = 2**30  # bytes per file
MAX_PIXELS = 10_000

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=not SCALE,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


@contextlib.contextmanager
def limits():
    """Limit the time and the memory of a block."""
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        faulthandler.cancel_dump_traceback_later()


def check_reading(data, suffix):
    """Read a file; what can be read can be written in every format and read again."""
    with tempfile.TemporaryDirectory() as folder, limits():
        path = Path(folder, f"photo{suffix}")
        path.write_bytes(data)
        assert count_pixels(path) >= 0
        try:
            photo = read_image(path, max_pixels=MAX_PIXELS)
        except ImageError as error:
            line = str(error)
            assert "\n" not in line and str(path) in line and len(line) < 600, line
            assert "not enough memory" not in line
            return
        assert count_pixels(path) == photo.samples.shape[1] * photo.samples.shape[2]
        for kind in (".png", ".jpg", ".tif", ".webp"):
            result = Path(folder, f"result{kind}")
            write_image(result, photo.samples, photo)
            again = read_image(result)
            assert again.samples.shape == photo.samples.shape


@fuzz
@given(build.damaged(build.pngs()))
def test_png_files(data):
    check_reading(data, ".png")


@fuzz
@given(build.damaged(build.jpegs()))
def test_jpeg_files(data):
    check_reading(data, ".jpg")


@fuzz
@given(build.damaged(build.webps()))
def test_webp_files(data):
    check_reading(data, ".webp")


@fuzz
@given(build.damaged(build.tiffs()))
def test_tiff_files(data):
    check_reading(data, ".tif")
