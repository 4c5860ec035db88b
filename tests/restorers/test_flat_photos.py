"""A photo of one colour stays that colour, and a nearly flat photo stays close to it."""

import pytest
import tiny_models
import torch

from refusion.checkpoint import build_model, read_checkpoint
from refusion.restorers import DDRM, Conditions, Regression, load_prior, load_restorer
from refusion.restorers.contract import FLAT, STRUCTURED, keep_flat_photos, structure
from refusion.restorers.ddrm.problems import colorize, denoise, super_resolution
from refusion.restorers.refusion.restorer import Refusion

SIZES = [(1, 1), (1, 7), (2, 2), (3, 5), (16, 16), (33, 20)]
COLOURS = [(0, 0, 0), (255, 255, 255), (128, 128, 128), (10, 10, 10), (30, 90, 220)]
SHIPPED = ["dehaze", "deshadow", "blind", "bokeh", "denoise"]


def flat(colour, size, dtype=torch.uint8):
    levels = torch.tensor(colour, dtype=torch.int32).view(1, 3, 1, 1).expand(1, 3, *size)
    return (levels * (257 if dtype == torch.uint16 else 1)).to(dtype).contiguous()


def conditions_of(restorer, size):
    """What the shipped model must know: a disparity map of one value gives one guide."""
    lens = torch.tensor([18.0, 160.0, 50.0])
    guide = torch.tensor([0.7, 0.8]).view(2, 1, 1).expand(2, *size)
    given = {"lens": lens, "guide": guide, "noise_std": 10 / 255}
    info = restorer.info
    return Conditions(**{name: given[name] for name in info.needs | info.optional})


@pytest.mark.parametrize("task", SHIPPED)
def test_shipped_models_keep_a_photo_of_one_colour(task):
    restorer = load_restorer(task, device="cpu", precision="fp32")
    for number, size in enumerate([*SIZES, (64, 64)]):
        for dtype in (torch.uint8, torch.uint16):
            for colour in COLOURS[number % 2 :: 2]:
                lq = flat(colour, size, dtype)
                result = restorer.restore(lq, conditions=conditions_of(restorer, size))
                assert torch.equal(result, lq), (colour, size)


@pytest.mark.slow
@pytest.mark.parametrize("task", SHIPPED)
def test_shipped_models_keep_larger_photos_of_one_colour(task):
    restorer = load_restorer(task, device="cpu", precision="fp32")
    for colour in COLOURS:
        lq = flat(colour, (200, 300))
        given = conditions_of(restorer, (200, 300))
        assert torch.equal(restorer.restore(lq, conditions=given), lq)


def test_ddrm_keeps_a_photo_of_one_colour():
    prior = load_prior(device="cpu", precision="fp32")
    for problem in (denoise(), super_resolution(2), colorize()):
        restorer = DDRM(prior, problem, sigma=10 / 255)
        for size in ((1, 1), (3, 5), (16, 16)):
            lq = flat((90, 90, 90), size)
            result = restorer.restore(lq, steps=2)
            assert bool((result == 90).all()), (problem.task, size)
            assert result.shape[-2:] == tuple(problem.scale * side for side in size)


@pytest.mark.parametrize("kind", [*tiny_models.CONFIGS, "blind"])
def test_every_kind_of_model_keeps_it(tiny_checkpoint, kind):
    """A network with random weights changes every other photo."""
    make = Regression if kind == "blind" else Refusion
    restorer = make(build_model(read_checkpoint(tiny_checkpoint(kind))))
    views, scale = restorer.info.views, restorer.info.scale
    lq = torch.full((2, 3 * views, 9, 12), 0.4)
    lq[1] = torch.rand(3 * views, 9, 12, generator=torch.Generator().manual_seed(0))
    result = restorer.restore(lq, conditions=tiny_models.known_of(kind, lq))
    torch.testing.assert_close(
        result[0], torch.full((3 * views, 9 * scale, 12 * scale), 0.4), rtol=0, atol=1e-6
    )
    alone = restorer.restore(lq[1:], conditions=tiny_models.known_of(kind, lq[1:]))
    torch.testing.assert_close(result[1:], alone, rtol=0, atol=1e-5)
    photo = restorer.restore(lq, conditions=tiny_models.known_of(kind, lq), strength=0)
    assert not torch.allclose(result[1], photo[1], atol=0.05)


@pytest.mark.parametrize("task", SHIPPED)
@pytest.mark.parametrize("side", [8, 32])
def test_noise_of_one_level_does_not_make_a_flat_photo_black(task, side):
    restorer = load_restorer(task, device="cpu", precision="fp32")
    size, draw = (side, side), torch.Generator().manual_seed(0)
    lq = (128 + torch.randint(-1, 2, (1, 3, *size), generator=draw)).to(torch.uint8)
    result = restorer.restore(lq, conditions=conditions_of(restorer, size))
    assert (result.int() - 128).abs().max() <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_structure_is_the_largest_difference_within_a_channel(dtype):
    levels = torch.zeros(5, 3, 600, 4)
    levels[:, 1] = 120  # a difference between channels is a colour, not structure
    levels[1, 1, 599, 3] += 255 * FLAT  # in the last rows
    levels[2, 0, 300, 1] += 255 * (FLAT + STRUCTURED) / 2
    levels[3, 2, 0, 0] += 255 * STRUCTURED
    levels[4, 2, :300] += 200
    full = {torch.uint8: 1, torch.uint16: 257}
    photos = (levels * full[dtype]).to(dtype) if dtype in full else levels / 255
    expected = torch.tensor([0, 0, 0.5, 1, 1])
    torch.testing.assert_close(structure(photos), expected, rtol=0, atol=1e-5)
    levels[2, 0, 599] += 200  # more structure below a band that has a little
    later = (levels[2:3] * full[dtype]).to(dtype) if dtype in full else levels[2:3] / 255
    assert structure(later).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
def test_the_restoration_grows_with_the_structure(dtype):
    """Without a jump, in bands, and without any change where there is structure."""
    full = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    photos = torch.full((4, 3, 600, 2), 0.4)
    photos[3, :, 500] += FLAT + 0.95 * (STRUCTURED - FLAT)
    photos[1, :, 500] += (FLAT + STRUCTURED) / 2
    photos[2, :, 500] += 0.5
    photos = (photos * full).round().to(dtype) if full > 1 else photos
    restored = (torch.full(photos.shape, 0.8) * full).to(dtype)
    result = keep_flat_photos(restored.clone(), photos)
    assert result.dtype == dtype
    assert torch.equal(result[0], photos[0]) and torch.equal(result[2], restored[2])
    assert float(result[1, 0, 0, 0]) / full == pytest.approx(0.6, abs=0.04)
    assert float(result[1, 0, -1, 0]) / full == pytest.approx(0.6, abs=0.04)
    assert not torch.equal(result[3], restored[3])
