"""Laws of the bokeh renderer: discs, pixels in focus, tiles, lenses, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from refusion.errors import ConfigError, ImageError
from refusion.images.samples import store
from refusion.optics.defocus import blur_radius, decode_defocus, encode_defocus
from refusion.restorers import RESTORERS, ArrayRestorer, BokehRenderer, Conditions, bokeh_renderer
from refusion.restorers.bokeh_renderer import MAX_RADIUS, added_radius
from refusion.synthesis.degradations.bokeh import lens_shape, photograph
from refusion.synthesis.lens_blur import CELL, render_bokeh

SHARP, WIDE, OPEN = 160.0, 18.0, -14.0  # Sony f/16 and f/1.8, Canon f/1.4


def photo(height=60, width=80, dtype=torch.uint8, seed=0):
    values = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    samples = torch.empty(values.shape, dtype=dtype)
    store(values, samples)
    return samples


def conditions(defocus, source=SHARP, target=WIDE, blur=8.0):
    guide = torch.empty((1, *defocus.shape), dtype=torch.uint16)
    store(encode_defocus(defocus)[None], guide)
    return Conditions(lens=torch.tensor([source, target, blur]), guide=guide)


def steps_of_depth(height=60, width=80):
    """In front of the focus, in focus, and behind it, from left to right."""
    defocus = torch.zeros(height, width)
    defocus[:, : width // 5] = -0.7
    defocus[:, width // 2 :] = torch.linspace(0.3, 1, width - width // 2)
    return defocus


def render(lq, defocus, *, tile="auto", strength=1.0, **lenses):
    how = {"tile": tile, "strength": strength}
    return BokehRenderer().restore(lq, conditions=conditions(defocus, **lenses), **how)


def test_it_is_a_restorer_of_the_table():
    assert RESTORERS["BokehRenderer"] is BokehRenderer
    info = BokehRenderer().info
    assert (info.task, info.needs, info.stochastic) == ("bokeh", {"lens", "guide"}, False)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_pixels_in_focus_keep_their_values_bit_for_bit(dtype):
    lq, defocus = photo(dtype=dtype), steps_of_depth()
    result = render(lq, defocus)
    assert result.dtype == dtype
    radius = math.ceil(0.7 * added_radius(SHARP, WIDE, 8.0))
    focused = slice(16 + radius + 1, 40)  # beside the blurred foreground
    assert torch.equal(result[..., focused], lq[..., focused])
    assert not torch.equal(result[..., 50:], lq[..., 50:])
    subject = defocus.clamp_min(0)
    assert torch.equal(render(lq, subject)[..., :40], lq[..., :40])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_point_becomes_a_disc_of_the_added_radius(sign):
    lq, radius = torch.zeros(1, 3, 61, 61), added_radius(80.0, 20.0, 9.0)
    lq[..., 30, 30] = 1
    options = {"source": 80.0, "target": 20.0, "blur": 9.0}
    shown = render(lq, torch.full((61, 61), sign), **options)[0, 0] ** 2.2
    lit = shown / shown.amax()
    assert float(lit.sum()) == pytest.approx(math.pi * radius**2, rel=0.05)


def test_the_radii_add_as_variances():
    r = [blur_radius(number, 20.0) for number in (40.0, 18.0)]
    assert added_radius(40.0, 18.0, 20.0) == pytest.approx(math.sqrt(r[1] ** 2 - r[0] ** 2))
    assert added_radius(-18.0, 18.0, 20.0) == added_radius(40.0, 18.0, 20.0, 0.0) == 0.0
    between = added_radius(40.0, 18.0, 20.0, 0.5)
    assert between == pytest.approx(math.sqrt((r[0] / 2 + r[1] / 2) ** 2 - r[0] ** 2))


@pytest.mark.parametrize("lens", [SHARP, OPEN])
def test_equal_lenses_give_the_photo_itself(lens):
    lq = photo()
    assert torch.equal(render(lq, steps_of_depth(), source=lens, target=lens), lq)


def test_strength_0_is_the_photo_and_a_wider_aperture_blurs_more():
    lq, defocus = photo(), steps_of_depth()
    assert torch.equal(render(lq, defocus, strength=0.0), lq)

    def detail(image):
        return float(image[..., 45:].float().diff(dim=-1).abs().mean())

    targets = [detail(render(lq, defocus, target=number)) for number in (80.0, 40.0, 18.0)]
    assert detail(lq) > targets[0] > targets[1] > targets[2]
    strengths = [detail(render(lq, defocus, strength=part)) for part in (0.3, 0.6, 1.0)]
    assert detail(lq) > strengths[0] > strengths[1] > strengths[2] == targets[2]


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_photo_of_one_colour_stays(value):
    lq = torch.full((1, 3, 40, 50), value, dtype=torch.uint8)
    assert torch.equal(render(lq, steps_of_depth(40, 50)), lq)


@pytest.mark.parametrize("tile", [31, 64])
@pytest.mark.parametrize("side", ["behind", "before", "both"])
def test_tiles_are_the_whole_photo(tile, side):
    """Also the colours behind a blurred foreground, which come from its surroundings."""
    lq = photo(150, 170, torch.uint16)
    wave = torch.linspace(0, 9, 150).sin()[:, None] * torch.linspace(1, 8, 170).cos()[None]
    wave = wave.sign() * (wave.abs() - 0.2).clamp_min(0) / 0.8
    wave = {"behind": wave.clamp_min(0), "before": wave.clamp_max(0), "both": wave}[side]
    options = {"target": OPEN, "blur": 9.0}
    whole = render(lq, wave, tile=None, **options)
    parts = render(lq, wave, tile=tile, **options)
    difference = (whole.int() - parts.int()).abs()
    assert int(difference.max()) <= 65535 * 0.5 / 255
    assert float(difference.float().mean()) < 65535 * 0.002 / 255
    assert float((whole != lq).float().mean()) > 0.3


def test_tiles_do_not_show_behind_a_foreground_with_small_discs():
    """It is filled from cells of the photo, which are larger than its discs."""
    lq = photo(260, 280, torch.float32)
    row, column = torch.meshgrid(torch.arange(260), torch.arange(280), indexing="ij")
    near = -(((row - 130) ** 2 + (column - 140) ** 2) < 90**2).float()
    whole = render(lq, near, tile=None, blur=5.0)
    assert float((whole - render(lq, near, tile=100, blur=5.0)).abs().max()) < 0.3 / 255


def test_the_layers_are_those_of_the_whole_photo():
    """Blur that grows from the top to the bottom: a tile has a part of the radii only."""
    lq = photo(300, 50, torch.float32)
    defocus = torch.linspace(-0.8, 1, 300)[:, None].expand(300, 50)
    radius = added_radius(SHARP, WIDE, 8.0) * decode_defocus(conditions(defocus).guide[0])
    expected = render_bokeh(lq[0], radius, lens_shape(WIDE), 2.5)
    for tile in (None, 64):
        torch.testing.assert_close(
            render(lq, defocus, tile=tile)[0], expected, atol=1 / 255, rtol=0
        )


def test_it_renders_what_the_training_pairs_show():
    """From a sharp source the result is the target of the pair."""
    clean, defocus = photo(dtype=torch.float32)[0], steps_of_depth()
    pair = photograph(clean, defocus, (SHARP * 1e3, OPEN, 8.0), 2.5)
    result = render(pair["lq"][None], defocus, source=SHARP * 1e3, target=OPEN)[0]
    torch.testing.assert_close(result, pair["gt"], atol=3 / 255, rtol=0)


def test_a_limit_of_the_memory_makes_the_tiles_smaller():
    lq, defocus, tiles = photo(300, 400), steps_of_depth(300, 400), []
    for memory in (None, 1):
        tiles.append([])
        BokehRenderer(memory=memory).restore(
            lq, conditions=conditions(defocus), callback=lambda *step: tiles[-1].append(step)
        )
    assert [len(seen) for seen in tiles] == [1, 5 * 7]


def test_a_limit_of_the_memory_leaves_room_for_the_result(monkeypatch):
    """Its pages count when they are written, so the memory that is left contains them at first."""
    lq, defocus, tiles = photo(1080, 300, torch.float32), steps_of_depth(1080, 300), []
    memory_left = lq.nbytes + 280 * 500**2  # a tile of 500 pixels with its surroundings
    monkeypatch.setattr(bokeh_renderer, "memory_left", lambda *_: memory_left)
    BokehRenderer(memory=1).restore(
        lq, conditions=conditions(defocus), callback=lambda *step: tiles.append(step)
    )
    around = 2 * (8 + CELL)
    assert len(tiles) == math.ceil(1080 / (500 - around)) == 4


def test_a_batch_is_its_photos():
    defocus = steps_of_depth()
    lq = torch.cat([photo(), photo(seed=1)])
    one, other = conditions(defocus), conditions(-defocus, target=OPEN)
    both = Conditions(
        lens=torch.stack([one.lens, other.lens]), guide=torch.stack([one.guide, other.guide])
    )
    seen = []
    result = BokehRenderer().restore(lq, conditions=both, callback=lambda *step: seen.append(step))
    alone = [
        BokehRenderer().restore(lq[i : i + 1], conditions=c)[0] for i, c in enumerate((one, other))
    ]
    assert torch.equal(result, torch.stack(alone))
    assert seen == [("decode", 1, 2), ("decode", 2, 2)]


def test_it_can_be_called_with_an_array():
    image = photo()[0].permute(1, 2, 0).numpy()
    restorer = ArrayRestorer(lambda *_: BokehRenderer())
    result = restorer(image, conditions=conditions(steps_of_depth()))
    assert result.shape == image.shape and result.dtype == image.dtype


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40)])
def test_tiny_photos_and_large_discs(size):
    result = render(photo(*size), torch.full(size, 1.0), blur=200.0)
    assert result.shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("lenses", "text"),
    [
        ({"target": 200.0}, "lens: the target lens, f/20, blurs less than the source lens, f/16"),
        ({"target": 0.0}, "lens: expected ten times an f-number"),
        ({"source": 0.0}, "lens: expected ten times an f-number"),
        ({"source": math.inf, "target": math.inf}, "lens: expected finite values"),
        ({"blur": 1e9}, f"lens: expected discs with radii up to {MAX_RADIUS} pixels, got"),
        ({"blur": -1.0}, "lens: expected a radius of the largest discs from 0, got -1"),
        ({"blur": math.nan}, "lens: expected finite values"),
    ],
)
def test_lenses_that_cannot_be_rendered(lenses, text):
    with pytest.raises(ConfigError, match=text) as caught:
        render(photo(), steps_of_depth(), **lenses)
    assert "\n" not in str(caught.value)


def test_what_is_missing_or_wrong():
    lq, good = photo(), conditions(steps_of_depth())
    restorer = BokehRenderer()
    with pytest.raises(ConfigError, match="lens: the 'bokeh' model needs"):
        restorer.restore(lq)
    with pytest.raises(ConfigError, match="guide: the 'bokeh' model does not estimate"):
        restorer.restore(lq, conditions=Conditions(lens=good.lens))
    two = Conditions(lens=good.lens, guide=good.guide.expand(2, -1, -1))
    with pytest.raises(ConfigError, match=r"guide: expected \(1, 60, 80\) per photo"):
        restorer.restore(lq, conditions=two)
    for guide in (good.guide.long(), 2.0 * torch.ones(1, 60, 80), -torch.ones(1, 60, 80)):
        with pytest.raises(ImageError, match="guide: expected f"):
            restorer.restore(lq, conditions=Conditions(lens=good.lens, guide=guide))
    with pytest.raises(ConfigError, match="steps, sampler: BokehRenderer has no process"):
        restorer.restore(lq, conditions=good, steps=2)
    with pytest.raises(ConfigError, match="tile"):
        restorer.restore(lq, conditions=good, tile=0)
    with pytest.raises(ConfigError, match="highlights"):
        BokehRenderer(highlights=0.5)
