"""Tiles that stay within a limit of the memory."""

import numpy as np
import pytest

from refusion.errors import ImageError
from refusion.runtime import limits
from refusion.runtime.limits import tile_within

PROCESS = 2**27
TILED = {"tile": 1024}
COPIED = {"tile": 1024, "copy": {"side": 384}}


@pytest.fixture(autouse=True)
def _process(monkeypatch):
    monkeypatch.setattr(limits, "process_bytes", lambda: PROCESS)


def photo(height, width):
    return np.broadcast_to(np.uint8(0), (3, height, width))


def test_a_smaller_limit_gives_smaller_tiles():
    sides = [tile_within(size * 2**20, photo(1000, 1500), TILED) for size in (4000, 1000, 600, 450)]
    assert sides == sorted(sides, reverse=True) and sides[0] == 1024 > sides[1] > sides[-1] >= 64
    assert all(side % 64 == 0 for side in sides)


def test_the_smallest_limit_is_that_of_the_message():
    with pytest.raises(ImageError, match=r"max memory: a photo of 1500x1000 needs about 0.4 GB"):
        tile_within(2**28, photo(1000, 1500), TILED)
    assert tile_within(int(0.45 * 2**30), photo(1000, 1500), TILED) >= 64


def test_a_copy_needs_no_memory_of_the_whole_photo():
    large = photo(6000, 8000)
    with pytest.raises(ImageError):
        tile_within(2**30, large, TILED)
    assert tile_within(2**30, large, COPIED) >= 384


def test_the_network_sees_a_copy_as_a_whole():
    """Its tiles do not get smaller, so too little memory is an error."""
    needed = PROCESS + limits._BANDS + 3 * 1000 * 1500 + limits._CALL * (384 / 1024) ** 2
    tile_within(int(needed) + 2**20, photo(1000, 1500), COPIED)
    with pytest.raises(ImageError):
        tile_within(int(needed) - 2**20, photo(1000, 1500), COPIED)
