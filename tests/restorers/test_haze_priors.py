"""Dark channel and colour attenuation: haze of known transmission and airlight, any size, tiles."""

import numpy as np
import pytest
import torch

from refusion.errors import ConfigError, ImageError
from refusion.restorers import RESTORERS, ColourAttenuation, DarkChannel, haze_prior
from refusion.restorers.colour_attenuation import depth
from refusion.restorers.haze_prior import atmospheric_light

PRIORS = [DarkChannel, ColourAttenuation]
AIRLIGHT = torch.tensor([0.85, 0.9, 0.95]).view(1, 3, 1, 1)


def scene(*size, seed=0):
    """A noisy scene below a sky; every window of the scene has a channel that is almost black."""
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    photo[:, 0] *= 0.05
    photo[..., : size[0] // 4, :] = AIRLIGHT
    return photo


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("t", [0.4, 0.7])
def test_airlight_of_homogeneous_haze_is_found(prior, t):
    hazy = scene(120, 140) * t + AIRLIGHT * (1 - t)
    found = prior()._airlight(hazy, 1536)
    torch.testing.assert_close(found, AIRLIGHT, atol=0.002, rtol=0)


@pytest.mark.parametrize("t", [0.4, 0.7])
def test_dark_channel_finds_the_transmission_of_homogeneous_haze(t):
    """The prior says t = 1 - 0.95 (1 - t), because 5 % of the haze stay."""
    clear = scene(300, 200)
    hazy = clear * t + AIRLIGHT * (1 - t)
    result = DarkChannel().restore(hazy)
    below = slice(220, None)  # farther from the sky than the guided filter reaches
    expected = (hazy - AIRLIGHT) / (1 - 0.95 * (1 - t)) + AIRLIGHT
    error = (result - expected.clamp(0, 1))[..., below, :].abs().mean()
    assert error < 0.02
    assert error < 0.2 * (hazy - clear)[..., below, :].abs().mean()


@pytest.mark.parametrize(("level", "saturation"), [(0.3, 0.6), (0.5, 0.2), (0.6, 0.4)])
def test_colour_attenuation_removes_homogeneous_haze(level, saturation):
    """A plane of one value and saturation has one depth d; haze with t = exp(-d) is removed."""
    colour = torch.tensor([level, level * (1 - saturation / 2), level * (1 - saturation)])
    hazy = colour.view(1, 3, 1, 1).expand(1, 3, 300, 200).clone()
    hazy[..., :60, :] = AIRLIGHT
    t = np.exp(-(0.121779 + 0.959710 * level - 0.780245 * saturation))
    t = min(1.0, t)
    clear = ((hazy - AIRLIGHT) / t + AIRLIGHT).clamp(0, 1)
    result = ColourAttenuation().restore(hazy)
    torch.testing.assert_close(result[..., 220:, :], clear[..., 220:, :], atol=0.002, rtol=0)


def test_depth_of_the_paper():
    """Value and saturation of one colour by hand; black has no saturation."""
    colours = torch.tensor([[0.8, 0.6, 0.2], [0, 0, 0]]).view(2, 3, 1, 1)
    expected = [0.121779 + 0.959710 * 0.8 - 0.780245 * 0.75, 0.121779]
    assert depth(colours).flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 2), (90, 130)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
def test_any_size_and_dtype(prior, size, dtype):
    photo = scene(max(4, size[0]), size[1])[..., : size[0], :]
    full = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    lq = photo.to(dtype) if full is None else (photo * full).round().to(dtype)
    result = prior().restore(lq)
    assert result.shape == lq.shape
    assert result.dtype == (torch.float32 if full is None else dtype)
    if full:
        expected = (prior().restore(lq.float() / full) * full).round()
        assert (result.float() - expected).abs().max() <= 1


@pytest.mark.parametrize("prior", PRIORS)
def test_tiles_do_not_change_the_result(prior, monkeypatch):
    """Also where equal values of the map of haze could be chosen differently."""
    photo = torch.cat([scene(400, 300), scene(400, 300, seed=1)]) * 0.5 + 0.4
    photo = (photo * 15).round() / 15
    calls = []
    whole = prior().restore(photo, tile=None)
    tiled = prior().restore(photo, tile=140, callback=lambda *now: calls.append(now))
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)
    assert calls == [("decode", number, 9) for number in range(1, 10)]
    monkeypatch.setattr(haze_prior, "_HALO", 60)
    assert (prior().restore(photo, tile=140) - whole).abs().max() > 1e-3


def test_light_of_a_large_photo_is_chosen_in_parts(monkeypatch):
    image = torch.rand(2, 3, 60, 50, generator=torch.Generator().manual_seed(2))
    haze = torch.rand(2, 1, 60, 50, generator=torch.Generator().manual_seed(3))
    image[..., 50, 7], haze[..., 50, 7] = 0.99, 2.0
    whole = atmospheric_light(image, haze)
    assert whole.flatten().tolist() == pytest.approx([0.99] * 6)
    monkeypatch.setattr(haze_prior, "_SORTED", 700)
    assert torch.equal(atmospheric_light(image, haze), whole)


@pytest.mark.parametrize("prior", PRIORS)
def test_strength_flat_photos_and_options(prior):
    photo = scene(60, 50) * 0.5 + 0.4
    restorer = prior()
    assert torch.equal(restorer.restore(photo, strength=0), photo)
    half = (photo + restorer.restore(photo)) / 2
    torch.testing.assert_close(restorer.restore(photo, strength=0.5), half)
    flat = torch.full((1, 3, 30, 30), 0.6)
    assert torch.equal(restorer.restore(flat), flat)
    noisy = flat + torch.rand(flat.shape, generator=torch.Generator().manual_seed(1)) * 7 / 255
    assert torch.equal(restorer.restore(noisy), noisy)
    assert RESTORERS[restorer.info.family] is prior
    for wrong in ({"steps": 1}, {"sampler": "posterior"}, {"strength": 2}, {"tile": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            restorer.restore(photo, **wrong)
    with pytest.raises(ImageError, match="lq"):
        restorer.restore(photo[:, :1])
