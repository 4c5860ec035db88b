"""CIEDE2000 against the test data published with it, and all metrics against scikit-image."""

import math

import pytest
import torch

from refusion.metrics import reported_metrics, score_pair
from refusion.metrics.ciede2000 import ciede2000, lab, lab_difference

# Sharma, Wu & Dalal 2005, table 1, the pairs that exercise hue turns, means and near-grays.
PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0009), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
    ((50, -0.0010, 2.4900), (50, 0.0009, -2.4900), 4.8045),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "expected"), PUBLISHED)
def test_published_pairs(first, second, expected):
    pair = [torch.tensor([x], dtype=torch.float64) for x in (first, second)]
    assert lab_difference(*pair).item() == pytest.approx(expected, abs=5e-5)
    assert lab_difference(*pair[::-1]).item() == pytest.approx(expected, abs=5e-5)


def test_lab_of_known_colours():
    # L*a*b* of the sRGB primaries under D65.
    primaries = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    expected = [(53.24, 80.09, 67.20), (87.74, -86.18, 83.18), (32.30, 79.19, -107.86)]
    for got, colour in zip(lab(primaries).flatten(1), expected, strict=True):
        assert got.tolist() == pytest.approx(colour, abs=0.02)


def photos():
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(1, 3, 30, 41, generator=generator).mul(255).round().div(255)
    noise = torch.randn(image.shape, generator=generator)
    return image, (0.8 * image + 0.1 * noise + 0.1).clamp(0, 1).mul(255).round().div(255)


def test_recorded_values_of_scikit_image():
    image, target = photos()  # scikit-image 0.26 gave these
    assert ciede2000(image, target).item() == pytest.approx(12.00192, abs=1e-4)
    assert ciede2000(image, image).item() == 0


@pytest.mark.parametrize("border", [0, 3])
def test_reported_metrics_agree_with_scikit_image(border):
    measure, colour = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.color")
    image, target = photos()
    cut = [
        x[0, :, border : 30 - border, border : 41 - border].permute(1, 2, 0).double().numpy()
        for x in (image, target)
    ]
    luma = [colour.rgb2ycbcr(x)[..., 0] / 255 for x in cut]
    window = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1}
    expected = {
        "psnr": measure.peak_signal_noise_ratio(*cut[::-1], data_range=1),
        "ssim": measure.structural_similarity(*cut, channel_axis=2, **window),
        "psnr_y": measure.peak_signal_noise_ratio(*luma[::-1], data_range=1),
        "ssim_y": measure.structural_similarity(*luma, **window),
        "ciede2000": colour.deltaE_ciede2000(*(colour.rgb2lab(x) for x in cut[::-1])).mean(),
    }
    measured = score_pair(image, target, reported_metrics(border))
    assert measured == pytest.approx(expected, abs=1e-4)


def test_statements_name_channel_range_and_border():
    for name, metric in reported_metrics(2).items():
        assert metric.name == name
        assert "border of 2 px cut" in metric.stated
    assert "no border cut" in reported_metrics()["psnr"].stated
    same = photos()[0]
    scores = score_pair(same, same, reported_metrics())
    assert scores["psnr"] == scores["psnr_y"] == math.inf
    assert scores["ciede2000"] == 0


def test_without_target_only_what_needs_none():
    assert score_pair(photos()[0], None, reported_metrics()) == {}
