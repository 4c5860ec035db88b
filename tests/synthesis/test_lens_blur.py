"""Laws of the lens-blur renderer."""

from __future__ import annotations

import math

import pytest
import torch

from refusion.errors import ConfigError, ImageError
from refusion.synthesis.lens_blur import render_bokeh
from refusion.synthesis.lens_disc import LensShape, disc_kernel

OCTAGON = LensShape(blades=8, rim=0.5)


def photo(height: int = 64, width: int = 80) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [None, OCTAGON, LensShape(blades=3, rim=2.0)])
@pytest.mark.parametrize("radius", [0.0, 0.4, 0.6, 1.0, 3.7, 12.0, 24.3])
def test_discs_keep_the_light(radius: float, shape: LensShape | None) -> None:
    kernel = disc_kernel(radius, shape)
    assert kernel.min() >= 0
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert kernel.shape[0] == kernel.shape[1] == 2 * (math.ceil(radius) if radius > 0.5 else 0) + 1
    torch.testing.assert_close(kernel, kernel.flip(0))


@pytest.mark.parametrize("radius", [4.0, 5.5, 9.0, 20.0])
def test_area_of_a_circle_and_of_an_octagon(radius: float) -> None:
    """A flat disc is as bright as one over its area."""
    circle, octagon = disc_kernel(radius), disc_kernel(radius, LensShape(blades=8))
    assert float(1 / circle.amax()) == pytest.approx(math.pi * radius**2, rel=0.05)
    expected = 8 / 2 * radius**2 * math.sin(2 * math.pi / 8)
    assert float(1 / octagon.amax()) == pytest.approx(expected, rel=0.05)


def test_rim_is_brighter_by_its_share() -> None:
    kernel = disc_kernel(20.0, LensShape(rim=0.5))
    assert float(kernel[20, 39] / kernel[20, 20]) == pytest.approx(1 + 0.5 * 0.95**4, rel=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("radius", [1.5, 4.0, 11.3])
def test_point_light_becomes_a_disc_of_the_radius(radius: float, sign: int) -> None:
    image = torch.zeros(3, 61, 67)
    image[:, 30, 33] = 1
    shown = render_bokeh(image, torch.full((61, 67), sign * radius), highlights=1.0)[0] ** 2.2
    lit = shown / shown.amax()
    assert float(lit.sum()) == pytest.approx(math.pi * radius**2, rel=0.05)
    # Pixels whose centre is on the edge have 0.5 up to rounding, so the limit is another one.
    rows, columns = (lit > 0.45).nonzero().T
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (60, 66)
    assert abs(float(rows.max() - rows.min() + 1) / 2 - radius) <= 0.6
    assert float((shown).sum()) == pytest.approx(1, rel=1e-3)  # no light is lost


def test_clipped_lights_stay_bright() -> None:
    image = torch.full((3, 41, 41), 0.1)
    image[:, 19:22, 19:22] = 1
    defocus = torch.full((41, 41), 5.0)
    plain, boosted = (render_bokeh(image, defocus, highlights=h)[0, 20, 20] for h in (1.0, 4.0))
    dark = 0.1**2.2
    expected = dark + 9 / (math.pi * 25) * (1 - dark)
    assert float(plain) == pytest.approx(expected ** (1 / 2.2), rel=0.02)
    assert boosted > plain + 0.2


@pytest.mark.parametrize("highlights", [1.0, 3.0, 8.0])
def test_in_focus_nothing_changes(highlights: float) -> None:
    image = photo()
    sharp = torch.zeros(64, 80)
    assert torch.equal(render_bokeh(image, sharp, highlights=highlights), image)
    sharp[:, 60:] = 6.0
    half = render_bokeh(image, sharp, highlights=highlights)
    torch.testing.assert_close(half[:, :, :60], image[:, :, :60], atol=2e-5, rtol=0)
    assert (half[:, :, 66:] - image[:, :, 66:]).abs().mean() > 0.1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_photo_stays_constant(value: float) -> None:
    image = torch.full((3, 50, 70), value)
    ramp = torch.linspace(-9, 14, 70).expand(50, 70)
    steps = (ramp / 5).round() * 5
    for defocus in (ramp, steps, ramp.T.flip(0).reshape(50, 70)):
        shown = render_bokeh(image, defocus, OCTAGON, highlights=5.0)
        torch.testing.assert_close(shown, image, atol=0.5 / 255, rtol=0)


def test_sharp_subject_leaves_no_halo() -> None:
    """Red square in focus before a blue background: all that is not red stays purely blue."""
    image = torch.zeros(3, 72, 72)
    image[2] = 0.8
    image[:, 24:48, 24:48] = torch.tensor([0.9, 0.0, 0.0])[:, None, None]
    defocus = torch.full((72, 72), 9.0)
    defocus[24:48, 24:48] = 0
    shown = render_bokeh(image, defocus)
    torch.testing.assert_close(shown, image, atol=2e-3, rtol=0)


def test_foreground_spreads_over_what_is_sharp() -> None:
    """Half the disc's light at the border, all of it a radius inside, none a radius outside."""
    image = torch.zeros(3, 64, 64)
    image[0, :, :32], image[2, :, 32:] = 1.0, 1.0
    defocus = torch.zeros(64, 64)
    defocus[:, :32] = -8.0
    light = render_bokeh(image, defocus, highlights=1.0) ** 2.2
    assert (light[0, :, :23] > 0.999).all()
    assert (light[0, :, 41:] < 1e-3).all()
    assert float(light[0, 32, 31:33].mean()) == pytest.approx(0.5, abs=0.03)
    profile = light[0, 32]
    assert (profile.diff() <= 1e-4).all()
    assert profile.diff().abs().max() < 0.1  # no seam where the foreground ended


def test_near_bar_before_far_background() -> None:
    """In its middle a blurred bar of 8 pixels covers what its disc of 5 pixels sees of it."""
    image = torch.zeros(3, 60, 60)
    image[1, :, 26:34] = 1.0
    defocus = torch.full((60, 60), 5.0)
    defocus[:, 26:34] = -5.0
    light = render_bokeh(image, defocus, highlights=1.0)[1, 30] ** 2.2
    covered = 2 * (4 * 3 + 25 * math.asin(0.8)) / (25 * math.pi)  # strip |x| < 4 of the disc
    assert float(light[29:31].mean()) == pytest.approx(covered, abs=0.03)
    assert light[22] > 0.05  # spreads over the background
    assert light[20] < 1e-3  # no farther than its radius


def test_slope_has_no_seams() -> None:
    """Layers of a smooth slope pass into each other: a gray ramp stays monotone and smooth."""
    width = 160
    image = torch.linspace(0.1, 0.9, width).expand(3, 60, width).contiguous()
    for low, high in ((0.0, 16.0), (-12.0, 12.0)):
        shown = render_bokeh(image, torch.linspace(low, high, width).expand(60, width))
        inner = shown[0, 30, 16:-16]
        assert (inner.diff() > 0).all()
        assert inner.diff().max() < 4 * 0.8 / width


def test_same_input_same_output() -> None:
    defocus = torch.linspace(-6, 9, 80).expand(64, 80)
    assert torch.equal(render_bokeh(photo(), defocus), render_bokeh(photo(), defocus))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spread", [5e-7, 1e-5, 1e-3])
def test_radii_equal_but_for_rounding(sign: int, spread: float) -> None:
    """Two layers without a distance between them would divide by it."""
    defocus = torch.full((64, 80), 3.0)
    defocus[:, 40:] += spread
    expected = render_bokeh(photo(), torch.full((64, 80), sign * 3.0))
    torch.testing.assert_close(render_bokeh(photo(), sign * defocus), expected, atol=2e-3, rtol=0)


def test_small_pictures_and_large_discs() -> None:
    shown = render_bokeh(photo(9, 7), torch.full((9, 7), 15.0))
    assert shown.shape == (3, 9, 7)
    assert 0 <= shown.min() <= shown.max() <= 1


def test_refusals() -> None:
    with pytest.raises(ImageError, match=r"defocus: expected the size of the image, \(64, 80\)"):
        render_bokeh(photo(), torch.zeros(80, 64))
    with pytest.raises(ConfigError, match="highlights"):
        render_bokeh(photo(), torch.zeros(64, 80), highlights=0.5)
    with pytest.raises(ConfigError, match="blades"):
        LensShape(blades=2)
    with pytest.raises(ConfigError, match="rim"):
        LensShape(rim=-0.1)
