"""Metrics against an independent implementation, known numbers and their own declared facts."""

import math

import numpy as np
import pytest
import torch

from refusion.errors import ConfigError, ImageError
from refusion.metrics import METRICS, Metric, metric, reported_metrics
from refusion.metrics.psnr import psnr
from refusion.metrics.ssim import ssim

STUDIO_LUMA = np.array([65.481, 128.553, 24.966]) / 255  # BT.601, MATLAB rgb2ycbcr


def photo_pair(seed: int, height: int = 37, width: int = 29, batch: int = 1):
    """Smooth texture and a noisy, shifted copy: SSIM well between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    noise = torch.randn(image.shape, generator=generator)
    return image, (0.9 * image + 0.03 + 0.04 * noise).clamp(0, 1)


def numpy_ssim(x, y):
    """SSIM of one channel by the definition: every window on its own, two-pass covariance."""
    size = min(11, min(x.shape) - 1 + min(x.shape) % 2)
    axis = np.arange(size) - size // 2
    bell = np.exp(-(axis**2) / (2 * 1.5**2))
    weight = np.outer(bell, bell) / bell.sum() ** 2
    windows = [np.lib.stride_tricks.sliding_window_view(v, (size, size)) for v in (x, y)]
    mean_x, mean_y = ((v * weight).sum((2, 3), keepdims=True) for v in windows)
    dx, dy = windows[0] - mean_x, windows[1] - mean_y
    var_x, var_y, cov = ((v * weight).sum((2, 3)) for v in (dx * dx, dy * dy, dx * dy))
    mean_x, mean_y = mean_x[..., 0, 0], mean_y[..., 0, 0]
    luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
    return (luminance * (2 * cov + 9e-4) / (var_x + var_y + 9e-4)).mean()


def as_planes(image, crop, channel):
    """Float64 channel planes of a (1, 3, H, W) tensor, after the crop."""
    rgb = image[0].numpy().astype(np.float64)
    rgb = rgb[:, crop : rgb.shape[1] - crop, crop : rgb.shape[2] - crop]
    return rgb if channel == "rgb" else np.tensordot(STUDIO_LUMA, rgb, 1)[None] + 16 / 255


@pytest.mark.parametrize("channel", ["rgb", "y"])
@pytest.mark.parametrize("crop", [0, 4])
def test_values_agree_with_numpy_by_definition(channel, crop):
    image, target = photo_pair(seed=crop)
    x, y = (as_planes(v, crop, channel) for v in (image, target))
    options = {"crop_border": crop, "channel": channel}
    expected_psnr = 10 * np.log10(1 / np.mean((x - y) ** 2))
    expected_ssim = np.mean([numpy_ssim(a, b) for a, b in zip(x, y, strict=True)])
    assert psnr(image, target, **options).item() == pytest.approx(expected_psnr, abs=1e-4)
    assert ssim(image, target, **options).item() == pytest.approx(expected_ssim, abs=1e-5)
    assert 0.2 < expected_ssim < 0.95


@pytest.mark.parametrize("side", range(1, 14))
def test_ssim_of_images_smaller_than_the_window(side):
    image, target = photo_pair(seed=side, height=side, width=side + 2)
    planes = zip(image[0].double().numpy(), target[0].double().numpy(), strict=True)
    expected = np.mean([numpy_ssim(a, b) for a, b in planes])
    assert ssim(image, target).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_metric_keeps_its_declared_facts(name):
    fact = METRICS[name]
    assert fact.name == name
    image, target = photo_pair(seed=1, batch=2)
    same, worse = fact.function(image, image), fact.function(image, target)
    much_worse = fact.function(image, 1 - target)
    assert same.shape == (2,)
    assert same.dtype == torch.float64
    assert same.tolist() == pytest.approx([fact.identity] * 2, abs=1e-6)
    assert fact.value_range[0] <= much_worse.min() <= same.max() <= fact.value_range[1] + 1e-6
    for better, other in ((same, worse), (worse, much_worse)):
        assert ((better > other) == fact.higher_is_better).all()
    assert torch.equal(fact.function(target, image), worse)


@pytest.mark.parametrize("name", METRICS)
def test_each_image_of_a_batch_is_measured_alone(name):
    function = METRICS[name].function
    image, target = photo_pair(seed=2, batch=3)
    alone = [function(image[i : i + 1], target[i : i + 1]).item() for i in range(3)]
    assert function(image, target).tolist() == pytest.approx(alone, rel=1e-6)
    assert len({round(value, 3) for value in alone}) == 3


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("strip_pixels", [1, 29 * 7, 29 * 26])
def test_strips_do_not_change_the_value(monkeypatch, name, strip_pixels):
    image, target = photo_pair(seed=3)
    whole = METRICS[name].function(image, target).item()
    monkeypatch.setattr(metric, "STRIP_PIXELS", strip_pixels)
    assert METRICS[name].function(image, target).item() == pytest.approx(whole, rel=1e-6)


def test_psnr_of_a_known_shift():
    image = torch.full((1, 3, 9, 7), 0.4)
    assert psnr(image + 0.1, image).item() == pytest.approx(20, abs=1e-4)
    assert psnr(image + 1 / 255, image).item() == pytest.approx(48.1308, abs=1e-3)
    assert psnr(image, image).item() == math.inf
    # A grey shift shrinks by 219/255 in studio-range luma.
    gain = 20 * math.log10(255 / 219)
    assert psnr(image + 0.1, image, channel="y").item() == pytest.approx(20 + gain, abs=1e-4)


def test_crop_border_ignores_exactly_the_border():
    image = torch.full((1, 3, 20, 24), 0.5)
    target = image.clone()
    target[..., 2, 5] = 1.0  # in the third row: outside a border of 2, inside one of 3
    assert psnr(image, target, crop_border=2).item() < 40
    assert psnr(image, target, crop_border=3).item() == math.inf
    target = image.clone()
    target[..., 5, -3] = 1.0
    assert psnr(image, target, crop_border=2).item() < 40
    assert psnr(image, target, crop_border=3).item() == math.inf


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": torch.zeros(3, 8, 8)}, ImageError, r"image: .*\(B, 3, H, W\).*\(3, 8, 8\)"),
        ({"image": torch.zeros(1, 1, 8, 8)}, ImageError, r"\(1, 1, 8, 8\)"),
        ({"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, ImageError, "uint8"),
        ({"target": torch.zeros(1, 3, 8, 9)}, ImageError, r"target: .*\(1, 3, 8, 9\)"),
        ({"crop_border": 4}, ImageError, "crop_border: .*got 4"),
        ({"crop_border": -1}, ImageError, "crop_border: .*got -1"),
        ({"channel": "ycbcr"}, ConfigError, "channel: .*ycbcr.*rgb, y"),
    ],
)
@pytest.mark.parametrize("name", METRICS)
def test_wrong_input_is_named(name, change, error, words):
    good = {"image": torch.zeros(1, 3, 8, 8), "target": torch.zeros(1, 3, 8, 8)}
    arguments = good | change
    image, target = arguments.pop("image"), arguments.pop("target")
    with pytest.raises(error, match=words):
        METRICS[name].function(image, target, **arguments)


def test_a_metric_of_ones_own_is_checked_before_it_is_used(monkeypatch):
    with pytest.raises(ConfigError, match=r"metric 'mae': its function must accept .* crop_border"):
        Metric("mae", lambda image, target: image, False, (0, 1), 0)
    Metric("mae", lambda image, target, **options: image, False, (0, 1), 0)
    monkeypatch.setitem(METRICS, "mae", psnr)
    with pytest.raises(ConfigError, match=r"METRICS\['mae'\]: expected a Metric, got function"):
        reported_metrics()
