"""The guide: a root of radii, told apart for either lens, up to the largest."""

import pytest
import torch

from refusion.images.samples import store
from refusion.optics.defocus import (
    LARGEST,
    blur_radius,
    decode_defocus,
    defocus_guide,
    encode_defocus,
)


def radius(guide: torch.Tensor) -> torch.Tensor:
    """Signed pixels, the inverse of the guide."""
    part = 2 * guide - 1
    return LARGEST * part.sign() * part.square()


def test_radii_can_be_read_off_the_guide() -> None:
    defocus = torch.arange(-20, 21)[None] / 20
    guide = defocus_guide(defocus, (160.0, -14.0, 20.0))
    assert guide.dtype == torch.float32
    for channel, number in zip(guide, (160.0, -14.0), strict=True):
        torch.testing.assert_close(radius(channel), defocus * blur_radius(number, 20.0))
    assert torch.equal(guide[:, :, 20], torch.full((2, 1), 0.5))
    assert bool((guide[1].diff() > 0).all())


def test_all_beyond_the_largest_looks_like_it() -> None:
    guide = defocus_guide(torch.tensor([[-1.0, 0.0, 0.6, 1.0]]), (18.0, 18.0, 100.0))
    assert guide[0].tolist() == [[0.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize("number", [160.0, -14.0])
def test_the_maker_does_not_change_the_radius(number: float) -> None:
    defocus = torch.rand(3, 4)
    a, b = (defocus_guide(defocus, (sign * number, 18.0, 9.0)) for sign in (1, -1))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.uint16, 1e-4), (torch.uint8, 2 / 255)]
)
def test_relative_defocus_is_decoded_and_what_is_in_focus_stays_in_focus(
    dtype: torch.dtype, tolerance: float
) -> None:
    defocus = torch.arange(-50, 51)[None] / 50
    guide = torch.empty(defocus.shape, dtype=dtype)
    store(encode_defocus(defocus), guide)
    decoded = decode_defocus(guide)
    torch.testing.assert_close(decoded, defocus, rtol=0, atol=tolerance)
    assert decoded[0, 50] == 0
    assert bool((decoded.diff() > 0).all())
    assert torch.equal(encode_defocus(2 * defocus), encode_defocus((2 * defocus).clamp(-1, 1)))
