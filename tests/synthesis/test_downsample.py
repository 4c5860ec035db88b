"""Laws of downsampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from degradation_cases import generator
from PIL import Image

from refusion.errors import ConfigError, ImageError
from refusion.synthesis.degradations.downsample import Downsample
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))


def photo() -> torch.Tensor:
    """Full-range grain: every tap of the kernel shows, and so does clipping of its overshoot."""
    return (torch.rand(3, 48, 72, generator=generator()) > 0.5).float()


def shrink(image: torch.Tensor, **settings) -> torch.Tensor:
    return Downsample(**settings)(image, generator(), FRAME)["lq"]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_is_that_of_pillow(factor: int) -> None:
    image = (64 + 128 * photo()) / 255  # Pillow clips between its two passes
    pixels = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    small = pixels.resize((72 // factor, 48 // factor), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(small)).permute(2, 0, 1).float()
    difference = (shrink(image, factor=factor) * 255 - expected).abs()
    assert difference.max() <= 1.01
    assert difference.mean() < 0.3


def imresize_weights(length: int, factor: int) -> torch.Tensor:
    """Matrix of MATLAB's imresize(..., 'bicubic'), from Keys' kernel with a = -0.5, (n, length)."""
    centres = (torch.arange(length // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    x = (torch.arange(-3 * factor, length + 3 * factor) - centres[:, None]).abs() / factor
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
    return (weights / weights.sum(1, keepdim=True))[:, 3 * factor : -3 * factor]


def test_bicubic_is_that_of_matlab_away_from_the_border() -> None:
    """MATLAB mirrors at the border where others renormalise: two pixels there may differ."""
    image = photo()
    rows, columns = imresize_weights(48, 4), imresize_weights(72, 4)
    expected = (rows @ image.double() @ columns.T).clamp(0, 1)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    difference = (shrink(image) - expected)[inner].abs()
    assert difference.max() <= 0.501 / 255


def test_area_is_the_mean_of_blocks() -> None:
    image = torch.rand(3, 12, 20, generator=generator())
    blocks = image.reshape(3, 3, 4, 5, 4).mean((2, 4))
    assert (shrink(image, mode="area") - blocks).abs().max() <= 0.501 / 255


def test_nearest_is_one_pixel_of_every_block() -> None:
    image = (torch.rand(3, 12, 20, generator=generator()) * 255).round() / 255
    for factor in (2, 4):
        half = factor // 2
        expected = image[:, half::factor, half::factor]
        torch.testing.assert_close(shrink(image, factor=factor, mode="nearest"), expected)


@pytest.mark.parametrize("mode", ["bicubic", "area", "nearest"])
def test_constant_stays_constant(mode: str) -> None:
    assert (shrink(torch.full((3, 32, 16), 0.2), mode=mode) * 255).round().unique().tolist() == [51]


def test_noise_is_as_strong_as_asked() -> None:
    lq = shrink(torch.full((3, 256, 256), 0.5), noise=(10.0, 10.0))
    assert lq.shape == (3, 64, 64)
    assert float(lq.std()) * 255 == pytest.approx(10, rel=0.03)
    assert ((lq * 255).round() - lq * 255).abs().max() < 1e-3


def test_sides_must_be_multiples() -> None:
    assert Downsample(factor=3).multiple == 3
    with pytest.raises(ImageError, match="multiples of 3, got 48 x 64"):
        shrink(torch.zeros(3, 48, 64), factor=3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factor": 1}, "Downsample.factor"),
        ({"factor": 2.0}, "Downsample.factor"),
        ({"mode": "bicubik"}, "did you mean 'bicubic'"),
        ({"noise": (5.0, 1.0)}, "Downsample.noise"),
        ({"noise": 3.0}, "Downsample.noise"),
    ],
)
def test_settings_out_of_range(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Downsample(**options)
