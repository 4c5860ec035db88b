"""Frames and turns: what belongs to the photo falls on a crop as on the whole, however it lies."""

from __future__ import annotations

import itertools

import pytest
import torch
from dataset_cases import address_photo

from refusion.data.augment import FlipRotate, aligned_crops
from refusion.synthesis.scenes.frame import GRID, PhotoFrame

TURNS = [FlipRotate(*flags) for flags in itertools.product((False, True), repeat=3)]


def photo(height: int = 60, width: int = 90) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))


def test_thumbnail_of_a_whole_photo() -> None:
    assert PhotoFrame.whole(photo(300, 600)).thumbnail.shape == (3, GRID // 2, GRID)
    assert PhotoFrame.whole(photo(40, 50)).thumbnail.shape == (3, 40, 50)


def test_whole_frame_gives_pixel_centres_in_long_sides() -> None:
    rows, columns = PhotoFrame.whole(photo()).coordinates((60, 90))
    assert rows.shape == columns.shape == (60, 90)
    torch.testing.assert_close(rows[:, 7], (torch.arange(60) + 0.5) / 90)
    torch.testing.assert_close(columns[7], (torch.arange(90) + 0.5) / 90)


@pytest.mark.parametrize("turn", TURNS)
def test_crop_of_fields_is_the_turned_part_of_them(turn: FlipRotate) -> None:
    """Fields at the photo's own size, cut on whole pixels: nothing is interpolated."""
    fields = photo()
    box = (20 / 90, 10 / 60, 65 / 90, 40 / 60)
    expected = turn.image(fields[:, 10:40, 20:65])
    frame = turn.frame(PhotoFrame(fields, box))
    seen = frame.crop(fields, tuple(expected.shape[1:]))
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", TURNS)
def test_coordinates_turn_with_the_crop(turn: FlipRotate) -> None:
    frame = PhotoFrame(photo(), (20 / 90, 10 / 60, 65 / 90, 40 / 60))
    upright = frame.coordinates((30, 45))
    expected = [turn.image(plane) for plane in upright]
    for seen, plane in zip(turn.frame(frame).coordinates(expected[0].shape), expected, strict=True):
        torch.testing.assert_close(seen, plane)


def test_turns_are_drawn_evenly() -> None:
    """Flip and rotation together give all eight; rotation alone the four that mirror nothing."""
    square = torch.arange(4.0).reshape(1, 2, 2)
    generator = torch.Generator().manual_seed(0)
    for flip, rotate, count in ((True, True, 8), (False, True, 4), (True, False, 2)):
        draws = [FlipRotate.draw(generator, flip=flip, rotate=rotate) for _ in range(400)]
        seen = [tuple(turn.image(square).flatten().tolist()) for turn in draws]
        shares = [seen.count(kind) / 400 for kind in set(seen)]
        assert len(shares) == count
        assert all(0.6 / count < share < 1.5 / count for share in shares)
        turned = {tuple(square.rot90(k, (1, 2)).flatten().tolist()) for k in range(4)}
        if not flip:
            assert set(seen) == turned
    assert FlipRotate.draw(generator, flip=False, rotate=False) == FlipRotate()


def test_crops_of_different_scales_show_the_same_place() -> None:
    """The address in every pixel tells where it came from."""
    photos = [address_photo(30, 20), address_photo(90, 60, scale=3)]
    places = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        small, large = aligned_crops(photos, (5, 15), generator)
        assert small.shape == (3, 5, 5)
        torch.testing.assert_close(large[:, ::3, ::3], small)
        places.add(tuple((small[:2, 0, 0] * 255).round().tolist()))
    assert len(places) > 10
    assert len({column - row for column, row in places}) > 5
