"""Models for bokeh, stereo pairs, noise and super-resolution."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError, ImageError
from refusion.nets.stereo import StereoCrossAttention
from refusion.restorers import Conditions, Refusion
from refusion.sde import SAMPLERS

LENS = torch.tensor([18.0, -14.0, 35.0])


@pytest.fixture
def model_of(tiny_checkpoint):
    """A new model for each call; a test can change it before a restorer copies it."""
    return lambda kind: build_model(read_checkpoint(tiny_checkpoint(kind)))


def photo(*size, batch=1, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, *size, generator=generator) * 0.8 + 0.1


def test_every_lens_number_has_an_effect_and_each_photo_its_own_lens(model_of):
    restorer, lq = Refusion(model_of("lens")), photo(12, 15, batch=2)
    rows = torch.stack([LENS, torch.tensor([160.0, 20.0, 70.0])])
    both = restorer.restore(lq, conditions=Conditions(lens=rows))
    for number, row in enumerate(rows):
        alone = restorer.restore(lq[number : number + 1], conditions=Conditions(lens=row))
        torch.testing.assert_close(both[number : number + 1], alone, rtol=0, atol=1e-5)
    first = restorer.restore(lq, conditions=Conditions(lens=LENS))
    for changed in LENS + 7 * torch.eye(3):
        other = restorer.restore(lq, conditions=Conditions(lens=changed))
        assert float((first - other).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (Conditions(), "give --from, --to and --disparity"),
        (Conditions(lens=LENS[:2]), "expected 3 numbers per photo"),
        (Conditions(lens=LENS.expand(3, 3)), "expected 3 numbers per photo"),
    ],
)
def test_a_missing_or_wrong_lens_raises_an_error(model_of, conditions, message):
    with pytest.raises(ConfigError, match=message):
        Refusion(model_of("lens")).restore(photo(8, 8, batch=2), conditions=conditions)


def guide_of(*size, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, *size, generator=generator) * 65535).to(torch.uint16)


@pytest.mark.parametrize("tile", [8, 24, "auto"])
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_tiles_do_not_change_the_result_with_a_guide(model_of, tile, kind):
    restorer, lq, guide = Refusion(model_of("guided")), photo(41, 30), guide_of(41, 30)
    conditions = Conditions(lens=LENS, guide=guide)
    if kind is torch.uint8:
        lq = (lq * 255).to(kind)
    whole = restorer.restore(lq, conditions=conditions, tile=None).float()
    tiled = restorer.restore(lq, conditions=conditions, tile=tile).float()
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1 if kind is torch.uint8 else 1e-5)


def test_a_guide_has_an_effect_and_each_photo_its_own_guide(model_of):
    model = model_of("guided")
    restorer, lq = Refusion(model), photo(12, 15, batch=2)
    guides = torch.stack([guide_of(12, 15), guide_of(12, 15, seed=6)])
    both = restorer.restore(lq, conditions=Conditions(lens=LENS, guide=guides))
    for number, guide in enumerate(guides):
        own = Conditions(lens=LENS, guide=guide)
        alone = restorer.restore(lq[number : number + 1], conditions=own)
        torch.testing.assert_close(both[number : number + 1], alone, rtol=0, atol=1e-5)
        floats = replace(own, guide=guide.float() / 65535)
        again = restorer.restore(lq[number : number + 1], conditions=floats)
        torch.testing.assert_close(again, alone, rtol=0, atol=1e-5)
    with torch.no_grad():
        model.network.intro.weight[:, 8:] = 0  # the U-Net still gets the guide
    blind = Refusion(model).restore(lq, conditions=Conditions(lens=LENS, guide=guides))
    assert float((blind - both).abs().max()) > 1e-4
    other = Refusion(model).restore(lq, conditions=Conditions(lens=LENS, guide=guides.flip(0)))
    assert float((blind - other).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (None, "does not estimate where .*; give --disparity FILE"),
        (torch.rand(1, 8, 8), r"guide: expected \(2, 8, 8\) per photo, got \(1, 8, 8\)"),
        (torch.rand(2, 8, 9), "expected"),
        (torch.rand(3, 2, 8, 8), "expected"),
    ],
)
def test_a_missing_or_wrong_guide_raises_an_error(model_of, guide, message):
    conditions = Conditions(lens=LENS, guide=guide)
    with pytest.raises(ConfigError, match=message):
        Refusion(model_of("guided")).restore(photo(8, 8, batch=2), conditions=conditions)


def test_each_view_of_a_pair_uses_the_other_view(model_of):
    model, (left, right, other) = model_of("stereo"), photo(12, 16, batch=3)

    def restored(left, right):
        return Refusion(model).restore(torch.cat([left, right])[None])[0].split(3)

    first, changed = restored(left, right), restored(left, other)
    assert not torch.equal(first[0], changed[0])
    for block in model.network.modules():
        if isinstance(block, StereoCrossAttention):
            torch.nn.init.zeros_(block.beta)
            torch.nn.init.zeros_(block.gamma)
    # Without the attention between them, each result depends on its own view alone.
    first, changed = restored(left, right), restored(left, other)
    assert torch.equal(first[0], changed[0])
    assert not torch.equal(first[1], changed[1])
    assert torch.equal(restored(other, right)[1], first[1])


def test_the_number_of_views_is_checked(model_of):
    with pytest.raises(ImageError, match=r"expected shape \(B, 6, H, W\)"):
        Refusion(model_of("stereo")).restore(photo(8, 8))
    with pytest.raises(ImageError, match=r"expected shape \(B, 3, H, W\)"):
        Refusion(model_of("pixel")).restore(photo(8, 8, channels=6))


class Oracle(torch.nn.Module):
    """A perfect network: it returns the noise in the state, and records states and times."""

    factor, conditional = 1, False

    def __init__(self, clean, sde):
        super().__init__()
        self.clean, self.sde, self.seen = clean, sde, []

    def forward(self, xt, mu, t):
        self.seen.append((xt, int(t)))
        return (xt - self.clean) / float(self.sde.std(int(t)))


@pytest.mark.parametrize("level", [3, 25, 50, 69])
@pytest.mark.parametrize("steps", [None, 2])
def test_denoising_starts_from_the_photo_at_the_time_of_its_noise(
    model_of, monkeypatch, level, steps
):
    clean = photo(16, 16) * 0.2 + 0.4
    noisy = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    restorer = Refusion(model_of("denoise"))
    oracle = Oracle(clean, restorer._model.sde)
    monkeypatch.setattr(restorer, "_model", replace(restorer._model, network=oracle))
    conditions = Conditions(noise_std=level / 255)
    result = restorer.restore(noisy, conditions=conditions, steps=steps, tile=None)
    torch.testing.assert_close(result, clean, rtol=0, atol=1e-5)
    state, start = oracle.seen[0]
    assert torch.equal(state, noisy)
    sde = oracle.sde
    spread = [float(sde.std(t)) for t in (start - 1, start, min(start + 1, sde.T))]
    assert spread[0] <= level / 255 <= spread[2] or start == sde.T
    assert len(oracle.seen) == (steps or min(restorer.info.steps, start))


def test_the_highest_noise_level_can_be_rounded_to_float32(model_of):
    restorer, lq = Refusion(model_of("denoise")), photo(8, 8)
    conditions = Conditions.from_item({"noise_std": torch.tensor(70 / 255)})
    assert conditions.noise_std > 70 / 255
    expected = restorer.restore(lq, conditions=Conditions(noise_std=70 / 255))
    assert torch.equal(restorer.restore(lq, conditions=conditions), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", ["denoise", "pixel"])
def test_info_stochastic_says_whether_the_seed_changes_the_result(model_of, kind, sampler):
    model, lq = model_of(kind), photo(8, 8)
    sampling = replace(model.config.sampling, sampler=sampler)
    restorer = Refusion(replace(model, config=replace(model.config, sampling=sampling)))
    conditions = Conditions(noise_std=25 / 255)
    one, other = (restorer.restore(lq, conditions=conditions, seed=seed) for seed in (1, 2))
    assert restorer.info.stochastic == (not torch.equal(one, other))


def test_the_change_grows_with_the_noise_level(model_of):
    restorer, lq = Refusion(model_of("denoise")), photo(16, 16)
    changes = [
        float(
            (restorer.restore(lq, conditions=Conditions(noise_std=level / 255)) - lq).abs().mean()
        )
        for level in (0, 10, 30, 60)
    ]
    assert changes == sorted(changes)
    assert changes[0] < 0.02 < changes[-1]


def test_a_wrong_noise_level_raises_an_error(model_of):
    restorer, lq = Refusion(model_of("denoise")), photo(8, 8)
    message = r"noise level: expected 0\.\.70 8-bit levels, the range of the model, got"
    for level in (80, 70.01, -1):
        with pytest.raises(ConfigError, match=f"{message} {level}"):
            restorer.restore(lq, conditions=Conditions(noise_std=level / 255))
    with pytest.raises(ConfigError, match=f"{message} nan"):
        restorer.restore(lq, conditions=Conditions(noise_std=math.nan))
    with pytest.raises(ConfigError, match="steps: expected"):
        restorer.restore(lq, conditions=Conditions(noise_std=1 / 255), steps=100)


@pytest.mark.parametrize("kind", ["sr", "stereo_sr"])
def test_super_resolution_starts_from_the_enlarged_photo(model_of, kind):
    model = model_of(kind)
    torch.nn.init.zeros_(model.network.ending.weight)
    torch.nn.init.zeros_(model.network.ending.bias)
    restorer = Refusion(model)
    lq = photo(7, 11, batch=2, channels=3 * restorer.info.views)
    # A residual of zero leaves mu, up to the rounding of the last step.
    expected = F.interpolate(lq, scale_factor=2, mode=model.config.upscale.mode).clamp(0, 1)
    torch.testing.assert_close(restorer.restore(lq), expected, rtol=0, atol=1e-5)


def test_noise_may_leave_the_range_by_six_standard_deviations(model_of):
    restorer = Refusion(model_of("denoise"))
    largest = restorer._model.sde.lam
    noisy = photo(16, 16) * 0 + 0.5
    noisy[0, 0, 0, 0] = 1 + 5.9 * largest
    conditions = Conditions(noise_std=0.05)
    restorer.restore(noisy, conditions=conditions)
    noisy[0, 0, 0, 0] = 1 + 6.1 * largest
    with pytest.raises(ImageError, match=r"lq: expected finite values in \[0, 1\]"):
        restorer.restore(noisy, conditions=conditions)
