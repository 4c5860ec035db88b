"""Kernels, ringing, noise and the two pipelines of blind restoration: laws and statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.randomness import categorical
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations import blind, mixed_blur
from refusion.synthesis.degradations.blind import FirstOrder, SecondOrder
from refusion.synthesis.degradations.kernels import Ellipse, gaussian, plateau, sinc
from refusion.synthesis.degradations.mixed_blur import (
    MixedBlur,
    SincFilter,
    draw_exponent,
    draw_odd,
)
from refusion.synthesis.degradations.mixed_noise import MixedNoise, poisson_noise
from refusion.synthesis.degradations.noise import GaussianNoise
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))
GRAY = torch.full((3, 96, 96), 0.5)


def covariance(kernel):
    """Second moments (xx, yy, xy) of a kernel about its middle."""
    offsets = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    k = kernel.double()
    xx = (k * offsets**2).sum()
    yy = (k * offsets[:, None] ** 2).sum()
    return float(xx), float(yy), float((k * offsets * offsets[:, None]).sum())


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_a_gaussian_has_the_widths_and_the_direction_it_was_given(angle):
    xx, yy, xy = covariance(gaussian(Ellipse(41, (4.0, 2.0), angle)))
    cos, sin = math.cos(angle), math.sin(angle)
    assert xx == pytest.approx(16 * cos**2 + 4 * sin**2, rel=1e-3)
    assert yy == pytest.approx(16 * sin**2 + 4 * cos**2, rel=1e-3)
    assert xy == pytest.approx((16 - 4) * sin * cos, abs=0.02)


@pytest.mark.parametrize("kernel", [
    gaussian(Ellipse(21, (0.2, 0.2))), gaussian(Ellipse(7, (3.0, 1.0), 1.0), 0.5),
    plateau(Ellipse(15, (2.0, 2.0)), 2.0), sinc(21, 1.0), sinc(7, math.pi),
])  # fmt: skip
def test_kernels_keep_light_and_place(kernel):
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert torch.allclose(kernel, kernel.flip((0, 1)), atol=1e-7)  # so the centroid is the middle
    assert kernel.argmax() == kernel.numel() // 2 or kernel.max() == kernel.flatten()[-1]


def test_the_exponent_makes_a_top_flat_or_sharp():
    """Share of the light within one sigma: a Gaussian has 1 - exp(-1/2) of it."""
    ellipse = Ellipse(81, (6.0, 6.0))
    inside = ellipse.q <= 1

    def share(kernel):
        return float(kernel.double()[inside].sum())

    assert share(gaussian(ellipse)) == pytest.approx(1 - math.exp(-0.5), abs=0.01)
    top = [float(gaussian(ellipse, b)[40, 44] / gaussian(ellipse, b).max()) for b in (0.5, 1, 4)]
    assert top == pytest.approx([math.exp(-0.5 * (16 / 36) ** b) for b in (0.5, 1, 4)], abs=1e-5)
    assert float(plateau(ellipse, 2.0)[40, 46] / plateau(ellipse, 2.0).max()) == pytest.approx(0.5)


@pytest.mark.parametrize("cutoff", [1.0, 2.0])
def test_a_sinc_passes_what_lies_below_its_cutoff_and_rings(cutoff):
    kernel = sinc(101, cutoff)
    response = torch.fft.fft2(torch.fft.ifftshift(kernel.double())).real
    frequency = 2 * math.pi * torch.fft.fftfreq(101, dtype=torch.float64)
    radius = torch.hypot(frequency, frequency[:, None])
    assert (response[radius < cutoff - 0.3] - 1).abs().max() < 0.1
    assert response[(radius > cutoff + 0.3) & (radius < math.pi)].abs().max() < 0.1
    assert kernel.min() < -1e-4


def test_draws_come_as_often_as_they_should():
    source = generator(1)
    drawn = np.bincount([categorical(source, (0.2, 0.7, 0.1)) for _ in range(3000)]) / 3000
    assert drawn == pytest.approx([0.2, 0.7, 0.1], abs=0.03)
    sides = [draw_odd(source, 7, 21) for _ in range(2000)]
    assert set(sides) == set(range(7, 22, 2))
    assert np.bincount(sides)[7::2] / 2000 == pytest.approx([1 / 8] * 8, abs=0.03)
    exponents = np.array([draw_exponent(source, 0.5, 4.0) for _ in range(2000)])
    assert (exponents < 1).mean() == pytest.approx(0.5, abs=0.04)
    assert 0.5 <= exponents.min() < 0.52 and 3.9 < exponents.max() <= 4
    assert exponents[exponents > 1].mean() == pytest.approx(2.5, abs=0.1)
    plateaus = np.array([draw_exponent(source, 1.0, 2.0) for _ in range(500)])
    assert (plateaus == 1).mean() == pytest.approx(0.5, abs=0.08)


def test_blur_takes_its_forms_by_their_weights(monkeypatch):
    made = []
    for name in ("gaussian", "plateau", "sinc"):
        plain = getattr(mixed_blur, name)

        def told(*args, name=name, plain=plain):
            made.append((name, *args))
            return plain(*args)

        monkeypatch.setattr(mixed_blur, name, told)
    source = generator(2)
    for _ in range(1500):
        MixedBlur().draw_kernel(source)
    sincs = [args for name, *args in made if name == "sinc"]
    gaussians = [args for name, *args in made if name == "gaussian"]
    plateaus = [args for name, *args in made if name == "plateau"]
    assert len(sincs) / 1500 == pytest.approx(0.1, abs=0.02)
    assert len(plateaus) / 1350 == pytest.approx(0.15, abs=0.03)
    assert sum(len(args) == 2 for args in gaussians) / 1350 == pytest.approx(0.15, abs=0.03)
    aniso = [args[0] for args in gaussians + plateaus if args[0].sigmas[0] != args[0].sigmas[1]]
    assert len(aniso) / 1350 == pytest.approx(0.31, abs=0.03)
    sigmas = np.array([args[0].sigmas for args in gaussians + plateaus])
    assert sigmas.min() >= 0.2 and sigmas.max() <= 3
    assert sigmas.mean() == pytest.approx(1.6, abs=0.08)
    angles = np.array([ellipse.angle for ellipse in aniso])
    assert angles.min() < -3 and angles.max() > 3 and abs(angles.mean()) < 0.25
    for side, cutoff in sincs:
        assert math.pi / (5 if side >= 13 else 3) <= cutoff <= math.pi


def test_a_wide_sinc_may_cut_off_lower(monkeypatch):
    drawn = []
    monkeypatch.setattr(mixed_blur, "sinc", lambda side, cutoff: drawn.append(cutoff))
    for side, lowest in ((11, 1 / 3), (13, 1 / 5)):
        drawn.clear()
        source = generator(7)
        for _ in range(300):
            MixedBlur(side=(side, side), sinc_share=1.0).draw_kernel(source)
        assert lowest <= min(drawn) / math.pi < lowest + 0.03


def test_shares_of_blur_and_ringing_leave_the_rest_alone():
    clean, source = colours(32, 32), generator(3)
    for part, share in ((MixedBlur(share=0.6), 0.6), (SincFilter(), 0.8)):
        touched = [part(clean, source, FRAME)["lq"] is not clean for _ in range(200)]
        assert np.mean(touched) == pytest.approx(share, abs=0.1)


def channels_differ(noise):
    return float((noise[0] - noise[1]).abs().mean()) > 1e-3


def test_noise_is_gaussian_or_poisson_gray_or_in_colour_by_shares():
    source, rows = generator(4), []
    ramp = torch.linspace(0.1, 0.9, 64).expand(3, 48, 64)
    for _ in range(250):
        part = MixedNoise(sigma=(10.0, 10.0), poisson=(1.0, 1.0))
        noise = part(ramp, source, FRAME)["lq"] - ramp
        dark, light = noise[..., :14].std(), noise[..., -14:].std()
        rows.append((float(light / dark) < 1.3, channels_differ(noise)))
    gaussian_share, colour_share = np.mean(rows, axis=0)
    assert gaussian_share == pytest.approx(0.5, abs=0.07)
    assert colour_share == pytest.approx(0.6, abs=0.07)


def test_the_strength_of_poisson_noise_multiplies_it():
    ramp = torch.linspace(0.3, 0.7, 96).expand(3, 64, 96)
    spread = [
        float((MixedNoise(0.0, poisson=(p, p))(ramp, generator(), FRAME)["lq"] - ramp).std())
        for p in (0.5, 1.0, 2.0)
    ]
    assert spread[1:] == pytest.approx([2 * spread[0], 4 * spread[0]], rel=0.05)


def test_gray_gaussian_noise_is_one_field_of_the_same_strength():
    draw = GaussianNoise(sigma=(20.0, 20.0), gray_share=1.0)
    noise = draw(GRAY, generator(), FRAME)["lq"] - GRAY
    assert torch.allclose(noise[0], noise[1]) and torch.allclose(noise[0], noise[2])
    assert float(noise.std() * 255) == pytest.approx(20, rel=0.02)
    with pytest.raises(ConfigError, match=r"GaussianNoise\.gray_share"):
        GaussianNoise(gray_share=1.5)


@pytest.mark.parametrize("is_gray", [False, True])
def test_poisson_noise_has_the_variance_of_its_photons(is_gray):
    """256 levels: as many photons in white; the noise of light 0.5 has variance 0.5 / 256."""
    levels = torch.arange(256).repeat(300)[: 192 * 300].reshape(300, 192) / 255
    image = torch.cat([levels, torch.full((300, 192), 0.5)], dim=1).expand(3, 300, 384)
    noise = poisson_noise(image, generator(5), is_gray=is_gray)
    assert len(noise) == (1 if is_gray else 3)
    half = noise[..., 192:]
    assert float(half.var()) == pytest.approx(128 / 255 / 256, rel=0.03)
    assert abs(float(half.mean())) < 5e-4
    few = poisson_noise(GRAY, generator(), is_gray=is_gray)  # one level, one photon
    assert float(few.var()) == pytest.approx(128 / 255, rel=0.05)


def test_scales_and_sizes():
    source = generator(6)
    scales = np.array([blind.draw_scale(source, (0.2, 0.7, 0.1), (0.15, 1.5)) for _ in range(3000)])
    assert (scales > 1).mean() == pytest.approx(0.2, abs=0.03)
    assert (scales == 1).mean() == pytest.approx(0.1, abs=0.03)
    assert 0.15 <= scales.min() < 0.17 and 1.48 < scales.max() <= 1.5
    assert scales[scales < 1].mean() == pytest.approx(0.575, abs=0.02)
    assert blind.scaled((10, 3), 0.3) == (3, 1)
    modes = [blind.draw_mode(source) for _ in range(600)]
    assert {mode: modes.count(mode) / 600 for mode in blind.MODES} == pytest.approx(
        dict.fromkeys(blind.MODES, 1 / 3), abs=0.07
    )
    for mode in blind.MODES:
        assert torch.allclose(blind.resized(GRAY, (17, 40), mode), torch.full((3, 17, 40), 0.5))


def recorded_parts(monkeypatch, names):
    """Names of the parts that run, the sizes they see and what they are set to, in order."""
    seen = []
    for name in names:
        part = getattr(blind, name)

        def wrapped(self, clean, generator, frame, name=name, call=part.__call__):
            seen.append((name, tuple(clean.shape[-2:]), self))
            return call(self, clean, generator, frame)

        monkeypatch.setattr(part, "__call__", wrapped)
    return seen


def recorded_modes(monkeypatch):
    """How images are resized, in order."""
    modes, plain = [], blind.resized

    def wrapped(image, size, mode):
        modes.append(mode)
        return plain(image, size, mode)

    monkeypatch.setattr(blind, "resized", wrapped)
    return modes


def test_the_first_order_is_blur_smaller_noise_jpeg_and_back(monkeypatch):
    seen = recorded_parts(monkeypatch, ("MixedBlur", "GaussianNoise", "Jpeg"))
    modes = recorded_modes(monkeypatch)
    draw = FirstOrder(factor=(4.0, 4.0), anisotropic_share=0.3, noise=(2.0, 9.0))
    lq = draw(colours(64, 48), generator(), FRAME)["lq"]
    assert_8_bit(lq, (3, 64, 48))
    (blur, sized, forms), (noise, *small), (jpeg, *also) = seen
    assert (blur, noise, jpeg) == ("MixedBlur", "GaussianNoise", "Jpeg")
    assert sized == (64, 48) and small[0] == also[0] == (16, 12)
    assert forms == MixedBlur((41, 41), (0.7, 0.3, 0, 0, 0, 0), 0.0, (0.1, 12.0))
    assert small[1].sigma == (2.0, 9.0) and also[1].quality == (30, 100)
    assert modes == ["bilinear", "bilinear"]


def test_the_second_order_does_it_twice_and_ends_in_either_order(monkeypatch):
    seen, orders = (
        recorded_parts(monkeypatch, ("MixedBlur", "MixedNoise", "SincFilter", "Jpeg")),
        set(),
    )
    draw = SecondOrder(resize=(1.0, 1.0), resize2=(0.5, 0.5), resize2_weights=(0.0, 1.0, 0.0))
    for seed in range(12):
        seen.clear()
        lq = draw(colours(64, 48), generator(seed), FRAME)["lq"]
        assert_8_bit(lq, (3, 64, 48))
        names = [name for name, _, _ in seen]
        assert names[:5] == ["MixedBlur", "MixedNoise", "Jpeg", "MixedBlur", "MixedNoise"]
        orders.add(tuple(names[5:]))
        sizes = {name: size for name, size, _ in seen[5:]}
        assert sizes["SincFilter"] == (16, 12)  # a quarter, whatever came before
        assert all(size == (64, 48) for _, size, _ in seen[:4])
        assert 8 <= seen[4][1][0] < 16  # half of it or more
    assert orders == {("Jpeg", "SincFilter"), ("SincFilter", "Jpeg")}


def test_each_pass_of_the_second_order_has_its_own_strengths(monkeypatch):
    seen = recorded_parts(monkeypatch, ("MixedBlur", "MixedNoise", "SincFilter"))
    modes = recorded_modes(monkeypatch)
    SecondOrder(ringing_share=0.7)(colours(64, 48), generator(), FRAME)
    parts = {}
    for name, _, part in seen:
        parts.setdefault(name, []).append(part)
    first, second = parts["MixedBlur"]
    assert first == MixedBlur() and (second.sigma, second.share) == ((0.2, 1.5), 0.8)
    first, second = parts["MixedNoise"]
    assert first == MixedNoise() and second == MixedNoise(0.5, (1.0, 25.0), (0.05, 2.5), 0.4)
    assert parts["SincFilter"] == [SincFilter(share=0.7)]
    assert len(modes) == 4 and modes[-1] == "bicubic"


def test_ringing_comes_last_as_often_as_jpeg(monkeypatch):
    seen, last = recorded_parts(monkeypatch, ("SincFilter", "Jpeg")), []
    for seed in range(100):
        SecondOrder()(colours(16, 16), generator(seed), FRAME)
        last.append(seen[-1][0] == "Jpeg")
    assert np.mean(last) == pytest.approx(0.5, abs=0.15)


def test_ranges_widen_what_the_pipeline_does():
    clean = colours(64, 64)
    hard, soft = SecondOrder(), SecondOrder(
        reduction=(1.0, 1.0), sigma=(0.2, 0.3), sigma2=(0.2, 0.3), resize_weights=(0.0, 0.0, 1.0),
        resize2_weights=(0.0, 0.0, 1.0), noise=(0.0, 0.0), noise2=(0.0, 0.0), poisson=(0.0, 0.0),
        poisson2=(0.0, 0.0), quality=(95, 95), ringing_share=0.0, sinc_share=0.0,
    )  # fmt: skip
    errors = [
        float(np.mean([(d(clean, generator(s), FRAME)["lq"] - clean).square().mean().item()
                       for s in range(10)]))
        for d in (hard, soft)
    ]  # fmt: skip
    assert errors[1] < 4e-4 < errors[0]


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (16, 16)])
@pytest.mark.parametrize("draw", [FirstOrder(), SecondOrder()])
def test_any_size_stays_what_it_is(draw, size):
    clean = torch.rand(3, *size, generator=generator())
    for seed in range(3):
        assert_8_bit(draw(clean, generator(seed), FRAME)["lq"], (3, *size))


def test_without_anything_to_do_only_the_rounding_is_left():
    nothing = FirstOrder(
        sigma=(0.01, 0.01), factor=(1.0, 1.0), noise=(0.0, 0.0), quality=(100, 100)
    )
    clean = quantise(colours(48, 48))
    assert float((nothing(clean, generator(), FRAME)["lq"] - clean).abs().mean()) < 0.01


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: MixedBlur(side=(7, 20)), "MixedBlur.side: expected odd"),
        (lambda: MixedBlur(sigma=(0.0, 1.0)), "MixedBlur.sigma"),
        (lambda: MixedBlur(form_weights=(0.0,) * 6), "form_weights: expected at least one"),
        (lambda: SincFilter(cutoff=(0.5, 1.5)), "SincFilter.cutoff"),
        (lambda: MixedNoise(gray_share=2.0), "MixedNoise.gray_share"),
        (lambda: FirstOrder(side=40), "FirstOrder.side: expected odd"),
        (lambda: FirstOrder(factor=(0.5, 2.0)), "FirstOrder.factor"),
        (lambda: SecondOrder(resize2_weights=(0.0, 0.0, 0.0)), "SecondOrder.resize2_weights"),
        (lambda: SecondOrder(sigma2=(0.0, 1.0)), "MixedBlur.sigma"),
        (lambda: SecondOrder(quality=(0, 50)), "SecondOrder.quality"),
    ],
)
def test_settings_out_of_range(build, words):
    with pytest.raises(ConfigError, match=words):
        build()
