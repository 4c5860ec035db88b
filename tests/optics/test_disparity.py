"""Disparity maps: their unit does not matter, focus is where asked, holes are background."""

from pathlib import Path

import pytest
import torch

from refusion.errors import ImageError
from refusion.images.io import write_image
from refusion.images.photo import Photo
from refusion.optics.disparity import IN_FOCUS, NEAR_SHARE, defocus_of, read_disparity


def ramp(rows: int = 40, columns: int = 200) -> torch.Tensor:
    """Nearer to the right."""
    return torch.linspace(0.2, 0.7, columns).expand(rows, columns)


def write(path: Path, values: torch.Tensor, bits: int) -> Path:
    image = values.expand(3, *values.shape)
    write_image(path, image, Photo(image, mode="gray", bit_depth=bits))
    return path


@pytest.mark.parametrize("focus", [None, (0.3, 0.5)])
def test_unit_and_zero_of_a_map_do_not_matter(focus: tuple[float, float] | None) -> None:
    expected = defocus_of(ramp(), focus)
    torch.testing.assert_close(defocus_of(37 * ramp() + 5, focus), expected, rtol=0, atol=1e-4)


def test_blur_grows_linearly_from_the_zone_in_focus() -> None:
    defocus = defocus_of(ramp())[0]
    place = int(NEAR_SHARE * 200)
    assert float(defocus[place]) == 0  # a tenth of the map is nearer
    assert float(defocus[2]) == pytest.approx(1, abs=0.02)  # the farthest, behind
    assert -0.2 < float(defocus[-1]) <= 0
    blurred = defocus[5:150].diff()
    torch.testing.assert_close(blurred, blurred.mean().expand(144), rtol=1e-3, atol=1e-5)
    zone = (defocus == 0).float().mean()
    assert float(zone) == pytest.approx(IN_FOCUS * NEAR_SHARE + (1 - NEAR_SHARE), abs=0.03)


@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_focus_is_at_the_point(x: float) -> None:
    defocus = defocus_of(ramp(), (x, 0.5))[0]
    assert float(defocus[min(199, int(x * 200))]) == 0
    assert float(defocus.abs().max()) == pytest.approx(1, abs=0.03)
    if x == 0:
        assert float(defocus.max()) <= 0.02  # all the rest is before it
    step = torch.zeros(40, 40)
    step[:20] = 1
    assert bool((defocus_of(step, (0.5, 0.1))[:20] == 0).all())  # y counts from the top
    assert bool((defocus_of(step, (0.5, 0.9))[:20] == -1).all())


def test_a_flat_map_is_refused() -> None:
    with pytest.raises(ImageError, match="one value only"):
        defocus_of(torch.full((9, 9), 0.3))


@pytest.mark.parametrize("bits", [8, 16])
def test_files_keep_their_levels(tmp_path: Path, bits: int) -> None:
    values = ramp(8, 20)
    found = read_disparity(write(tmp_path / "map.png", values, bits))
    torch.testing.assert_close(found, values, rtol=0, atol=0.6 / (2**bits - 1))


def test_unknown_pixels_lie_behind_what_hides_them(tmp_path: Path) -> None:
    values = torch.full((6, 12), 0.4)
    values[:, 6:] = 0.8  # before the rest
    expected = values.clone()
    values[1, 4:6] = 0  # beside it
    values[2, :3] = 0
    values[3, 9:] = 0
    values[4:] = 0  # rows of which nothing is known take what is above
    path = write(tmp_path / "map.png", values, 16)
    found = read_disparity(path, zero_is_unknown=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert float(read_disparity(path)[1, 4]) == 0
    with pytest.raises(ImageError, match="unknown"):
        read_disparity(write(tmp_path / "none.png", 0 * values, 8), zero_is_unknown=True)
