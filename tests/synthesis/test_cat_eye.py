"""Cat-eye discs: the intersection of two shifted circles, smaller towards the corner."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from refusion.errors import ConfigError
from refusion.synthesis.cat_eye import OpticalAxis, varying_filter
from refusion.synthesis.degradations.bokeh import Bokeh, lens_shape
from refusion.synthesis.fourier import plane_filter
from refusion.synthesis.lens_blur import render_bokeh
from refusion.synthesis.lens_disc import LensShape, cut_disc_kernel, disc_kernel
from refusion.synthesis.scenes.frame import PhotoFrame

SIZE = (120, 160)
RADIUS = 12.0
SHAPE = LensShape(cat_eye=0.6)


def lens_area(small: float, large: float, shift: float) -> float:
    """Area of the intersection of two circles."""
    if shift <= large - small:
        return math.pi * small**2
    a = (shift**2 + small**2 - large**2) / (2 * shift * small)
    b = (shift**2 + large**2 - small**2) / (2 * shift * large)
    root = (small + large - shift) * (shift + small - large)
    root *= (shift - small + large) * (shift + small + large)
    return small**2 * math.acos(a) + large**2 * math.acos(b) - math.sqrt(root) / 2


def shown(row: int, column: int, sign: int = 1, shape: LensShape = SHAPE) -> torch.Tensor:
    """The disc of a point light, (H, W), 1 inside."""
    image = torch.zeros(3, *SIZE)
    image[:, row, column] = 1
    light = render_bokeh(image, torch.full(SIZE, sign * RADIUS), shape, highlights=1.0)[0] ** 2.2
    return light / light.amax()


def circle(row: float, column: float, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in SIZE), indexing="ij")
    return torch.hypot(rows - row, columns - column) <= radius


@pytest.mark.parametrize("rim", [1.0, 1.3])
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("radius", [8.0, 20.0])
def test_the_area_is_that_of_two_circles(radius: float, shift: float, rim: float) -> None:
    for angle in (0.0, 0.7, 2.0):
        place = (shift * radius * math.sin(angle), shift * radius * math.cos(angle))
        disc = cut_disc_kernel(*place, radius, LensShape(stop=rim))
        assert float(disc.sum()) == pytest.approx(1, abs=1e-5)
        expected = lens_area(radius, rim * radius, shift * radius)
        assert float(1 / disc.amax()) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [(18, 22), (18, 137), (101, 22), (101, 137), (60, 135), (20, 80)])
def test_a_disc_is_the_intersection_of_two_shifted_circles(place, sign: int) -> None:
    """The second circle is moved to the axis behind the plane of focus, away from it in front."""
    row, column = place
    disc = shown(row, column, sign)
    corner = math.hypot(*SIZE) / 2
    down, right = (row - (SIZE[0] - 1) / 2) / corner, (column - (SIZE[1] - 1) / 2) / corner
    move = -sign * SHAPE.cat_eye * RADIUS
    expected = circle(row, column, RADIUS) & circle(
        row + move * down, column + move * right, RADIUS
    )
    found = disc > 0.5
    overlap = float((found & expected).sum() / (found | expected).sum())
    whole = circle(row, column, RADIUS)
    assert overlap > 0.95
    assert float((found & whole).sum() / (found | whole).sum()) < overlap - 0.05


def test_the_area_shrinks_towards_the_corner() -> None:
    areas = []
    for share in (0.0, 0.25, 0.5, 0.75):
        row, column = (round((1 - share) * (side - 1) / 2) for side in SIZE)
        areas.append(float((shown(row, column) > 0.5).sum()))
        expected = lens_area(RADIUS, RADIUS, share * SHAPE.cat_eye * RADIUS)
        assert areas[-1] == pytest.approx(expected, rel=0.06)
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] < 0.8 * areas[0]


def test_no_light_is_lost() -> None:
    for place in ((30, 40), (60, 80), (90, 30)):
        disc = shown(*place)
        plain = shown(*place, shape=LensShape())
        assert (disc > 0.5).sum() < (plain > 0.5).sum() or place == (60, 80)
    image = torch.zeros(3, *SIZE)
    image[:, 30, 40] = 1
    for radius, largest in ((4.0, 0.03), (RADIUS, 0.1)):  # 4 % and 12 % of the half diagonal
        light = render_bokeh(image, torch.full(SIZE, radius), SHAPE, highlights=1.0) ** 2.2
        assert float(light[0].sum()) == pytest.approx(1, rel=largest)


def test_a_constant_photo_stays_constant() -> None:
    image = torch.full((3, 60, 80), 0.3)
    ramp = torch.linspace(-5, 8, 80).expand(60, 80)
    rendered = render_bokeh(image, ramp, LensShape(8, 0.5, cat_eye=1.0), highlights=5.0)
    torch.testing.assert_close(rendered, image, atol=0.5 / 255, rtol=0)


def test_a_small_aperture_is_not_cut() -> None:
    """The rim does not reach discs of f/16, and those of f/2.8 less than open ones."""
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    defocus = torch.linspace(-6, 9, SIZE[1]).expand(*SIZE)
    plain = render_bokeh(image, defocus)
    stopped = render_bokeh(image, defocus, LensShape(cat_eye=0.5, stop=2.0))
    assert torch.equal(stopped, plain)
    changes = [
        float((render_bokeh(image, defocus, LensShape(cat_eye=0.5, stop=stop)) - plain).abs().sum())
        for stop in (1.5, 1.2, 1.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_a_part_of_a_photo_is_rendered_like_the_whole() -> None:
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    defocus = torch.full(SIZE, 5.0)
    whole = render_bokeh(image, defocus, SHAPE)
    axis = OpticalAxis.centre(*SIZE).moved(-40, -90)
    part = render_bokeh(image[:, 40:, 90:], defocus[40:, 90:], SHAPE, axis=axis)
    torch.testing.assert_close(part[:, 8:-8, 8:-8], whole[:, 48:-8, 98:-8], atol=0.03, rtol=0)
    wrong = render_bokeh(image[:, 40:, 90:], defocus[40:, 90:], SHAPE)
    assert (wrong - whole[:, 40:, 90:])[:, 8:-8, 8:-8].abs().max() > 0.04


def test_discs_between_two_nodes_are_interpolated() -> None:
    """A row and a plane of one pixel have one node; the sum of all weights is 1."""
    axis = OpticalAxis(10.0, 10.0, 30.0)
    for size in ((1, 40), (40, 1), (1, 1), (33, 70)):
        blur = varying_filter(lambda down, right: disc_kernel(2.0), 2, 30.0, axis, size)
        plane = torch.rand(size)
        expected = plane_filter(disc_kernel(2.0), *size)(plane)
        torch.testing.assert_close(blur(plane), expected, atol=1e-5, rtol=0)


def test_a_plane_of_ones_stays_one_where_the_discs_change() -> None:
    """So a blurred foreground is opaque. Each point alone keeps the shape of its disc."""
    shape, axis = LensShape(cat_eye=0.8), OpticalAxis.centre(*SIZE)
    cut = functools.partial(cut_disc_kernel, radius=RADIUS, shape=shape)
    blur = varying_filter(cut, 12, -0.8 * RADIUS, axis, SIZE)
    inner = blur(torch.ones(SIZE))[12:-12, 12:-12]
    torch.testing.assert_close(inner, torch.ones_like(inner), atol=1e-4, rtol=0)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("box", [(0.1, 0.2, 0.6, 0.9), (0.6, 0.2, 0.1, 0.9), (0.1, 0.9, 0.6, 0.2)])
def test_a_mirrored_crop_has_mirrored_discs(box, transposed: bool) -> None:
    thumbnail = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    degradation = Bokeh(cat_eye=(0.8, 0.8), blur=(0.05, 0.05), sharp_share=1.0, identity_share=0.0)
    scene = degradation.draw_scene(thumbnail, torch.Generator().manual_seed(1))
    plain = PhotoFrame(thumbnail, (0.1, 0.2, 0.6, 0.9))
    crop = torch.rand(3, 56, 40, generator=torch.Generator().manual_seed(2))
    expected = degradation.apply(crop, scene, torch.Generator(), plain)["gt"]

    def turned(image: torch.Tensor) -> torch.Tensor:
        image = image.flip(2) if box[0] > box[2] else image
        image = image.flip(1) if box[1] > box[3] else image
        return image.transpose(1, 2).contiguous() if transposed else image.contiguous()

    frame = PhotoFrame(thumbnail, box, transposed)
    found = degradation.apply(turned(crop), scene, torch.Generator(), frame)["gt"]
    torch.testing.assert_close(found, turned(expected), atol=2.1 / 255, rtol=0)


def test_it_is_off_by_default_and_draws_nothing() -> None:
    photo = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    frame = PhotoFrame.whole(photo)
    results = [
        Bokeh(cat_eye=cat_eye, blur=(0.1, 0.1), sharp_share=1.0, identity_share=0.0)(
            photo, torch.Generator().manual_seed(3), frame
        )
        for cat_eye in ((0.0, 0.0), (0.0, 1e-6), (0.9, 0.9))
    ]
    for result in results[1:]:
        assert torch.equal(result["lens"], results[0]["lens"])
        assert torch.equal(result["guide"], results[0]["guide"])
    assert torch.equal(results[1]["gt"], results[0]["gt"])
    assert not torch.equal(results[2]["gt"], results[0]["gt"])


def test_the_default_draws_the_same_numbers_as_before(monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "refusion.synthesis.degradations.bokeh.uniform",
        lambda generator, low, high: drawn.append((low, high)) or low,
    )
    thumbnail = torch.rand(3, 60, 80)
    for cat_eye in ((0.0, 0.0), (0.2, 0.7)):
        Bokeh(cat_eye=cat_eye, scene_weights=(0, 1, 0, 0, 0)).draw_scene(
            thumbnail, torch.Generator().manual_seed(0)
        )
    first, second = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert second == [*first, (0.2, 0.7)] and (0.0, 0.0) not in first


def test_the_lens_table_has_the_open_apertures() -> None:
    assert lens_shape(18.0, 0.5) == LensShape(cat_eye=0.5)
    assert lens_shape(-28.0, 0.5) == LensShape(8, 0.5, cat_eye=0.5, stop=2.0)
    assert lens_shape(-12.0, 0.5).stop == 1.0  # faster than the table
    assert lens_shape(-28.0) == LensShape(8, 0.5)


def test_refusals() -> None:
    for wrong in ({"cat_eye": -0.1}, {"cat_eye": 1.1}, {"stop": 0.9}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            LensShape(**wrong)
    with pytest.raises(ConfigError, match="cat_eye"):
        Bokeh(cat_eye=(0.5, 1.5))
