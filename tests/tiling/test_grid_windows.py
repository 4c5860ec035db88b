"""Rectangular tiles of a photo: laws, and a comparison with all other grids."""

from itertools import pairwise, product

import pytest
import torch

from refusion.tile_grid import OVERLAP
from refusion.tiling import blending

SIZES = [(1, 9), (40, 57), (65, 64), (16, 900), (900, 20), (133, 250), (301, 97)]
TILES = [(8, 1), (8, 4), (8, 8), (32, 16), (64, 16), (64, 64)]
SHARES = [  # rows and columns of 6 and 24 megapixels; side of the tiles in fp32 and bf16 on CPUs
    ((2000, 3000), 1024, 1.11),
    ((2000, 3000), 1472, 1.05),
    ((4000, 6000), 1024, 1.12),
    ((4000, 6000), 1472, 1.07),
]


def sides(windows):
    return [len(weights) for _, weights in windows]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("tile", "align"), TILES)
def test_tiles_cover_the_photo_with_weights_that_add_up_to_1(size, tile, align):
    overlap = min(tile // 4, OVERLAP, tile - align)
    windows = blending.grid_windows(*size, tile, align)
    for length, axis in zip(size, windows, strict=True):
        total = torch.zeros(length)
        for start, weights in axis:
            assert start % align == 0
            assert bool((weights > 0).all())
            total[start : start + len(weights)] += weights
        torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)
        for (start, weights), (following, _) in pairwise(axis):
            assert following - start <= len(weights) - overlap


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("tile", "align"), TILES)
def test_tiles_are_small_enough_equal_and_evenly_spread(size, tile, align):
    rows, columns = blending.grid_windows(*size, tile, align)
    for axis in (rows, columns):
        assert len(set(sides(axis)[:-1])) <= 1
        assert sides(axis)[0] - align < sides(axis)[-1] <= sides(axis)[0]
        starts = [start for start, _ in axis]
        gaps = [second - first for first, second in pairwise(starts)] or [0]
        assert max(gaps) - min(gaps) <= align
    assert sides(rows)[0] * sides(columns)[0] <= tile**2
    assert len(rows) == 1 or sides(rows)[0] <= tile * 3 / 2


@pytest.mark.parametrize(
    ("size", "tile", "align"),
    [((133, 250), 64, 8), ((301, 97), 64, 16), ((301, 97), 96, 8), ((2000, 3000), 512, 16)],
)
def test_no_other_grid_computes_fewer_pixels(size, tile, align):
    """All grids of the shortest tiles that cover the photo; lengths are multiples of `align`."""
    rows, columns = blending.grid_windows(*size, tile, align)
    high, wide = (-(-length // align) for length in size)
    most, shared = tile // align, -(-min(tile // 4, OVERLAP) // align)

    def side(length, count):
        return -(-(length + (count - 1) * shared) // count)

    pixels = [
        m * side(high, m) * n * side(wide, n)
        for m, n in product(range(1, high), range(1, wide))
        if side(high, m) <= most * 3 // 2
        and (m == 1 or side(high, m - 1) > most * 2 // 3)
        and side(high, m) * side(wide, n) <= most**2
    ]
    m, n = len(rows), len(columns)
    assert m * side(high, m) * n * side(wide, n) == min(pixels)


@pytest.mark.parametrize(("size", "tile", "share"), SHARES)
def test_share_of_computed_pixels(size, tile, share):
    """Recorded: pixels of all tiles by pixels of the photo."""
    rows, columns = blending.grid_windows(*size, tile, 16)
    found = sum(sides(rows)) * sum(sides(columns)) / (size[0] * size[1])
    assert round(found, 2) == share


def test_weights_of_two_tiles():
    """16 pixels in tiles of 9 that share 2, with trapezoids that rise over 2."""
    windows, _ = blending.grid_windows(16, 7, 8, 1)
    assert [start for start, _ in windows] == [0, 7]
    shape = torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 2, 1])
    total = torch.zeros(16)
    for start, _ in windows:
        total[start : start + 9] += shape
    for start, weights in windows:
        torch.testing.assert_close(weights, shape / total[start : start + 9])


def test_a_photo_of_no_more_pixels_than_a_tile_is_not_cut():
    seen, x = [], torch.rand(1, 3, 100, 40)
    for is_square in (False, True):
        blending.blend_tiles(
            lambda x, m: seen.append(x.shape[-2:]) or x, x, x, 64, 16, is_square=is_square
        )
    assert seen == [(100, 40), (64, 40), (68, 40)]


@pytest.mark.parametrize("is_square", [False, True])
def test_tiles_are_reported(is_square):
    done, x = [], torch.rand(1, 3, 100, 140)
    blending.blend_tiles(
        lambda x, m: x, x, x, 64, 16, lambda *a: done.append(a), is_square=is_square
    )
    assert done == [(number, len(done)) for number in range(1, len(done) + 1)]
    assert len(done) > 1
