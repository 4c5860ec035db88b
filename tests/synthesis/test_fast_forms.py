"""Fast forms of known functions agree with the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kornia.filters import guided_blur

from refusion.synthesis.camera import power
from refusion.synthesis.scenes.fields import quantile
from refusion.synthesis.scenes.frame import PhotoFrame
from refusion.synthesis.scenes.windows import guided_filter, window_max
from refusion.synthesis.tone import Tone


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [1, 3, 7, 9, 21, 31, 47])
def test_guided_filter_is_that_of_kornia(side: int) -> None:
    guide, field = noise(48, 64), noise(48, 64, seed=1)
    expected = guided_blur(guide[None, None], field[None, None], side, 4e-3, separable=True)[0, 0]
    torch.testing.assert_close(guided_filter(guide, field, side, 4e-3), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9, 17, 21, 33, 47])
def test_window_maximum_is_that_of_torch(side: int) -> None:
    fields = noise(2, 30, 41) - 0.5
    expected = F.max_pool2d(fields, side, 1, side // 2)
    assert torch.equal(window_max(fields, side), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_quantile_is_that_of_torch(share: float, count: int) -> None:
    fields = noise(3, count)
    torch.testing.assert_close(quantile(fields, share), fields.quantile(share, dim=1))
    assert torch.equal(fields, noise(3, count))


@pytest.mark.parametrize("exponent", [0.4, 1 / 2.2, 1.0, 1.05, 2.2])
def test_power_is_that_of_torch(exponent: float) -> None:
    light = torch.cat([torch.zeros(1), torch.logspace(-6, 0, 999)])
    torch.testing.assert_close(power(light, exponent), light**exponent, atol=0, rtol=3e-6)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.7, 0.1, 0.2, 0.95), (0.3, 0.8, 0.4, 0.2)])
@pytest.mark.parametrize("size", [(5, 7), (64, 48), (1, 1)])
def test_crop_of_fields_is_bilinear(box, transposed: bool, size: tuple[int, int]) -> None:
    fields = noise(2, 18, 24)
    rows, columns = size[::-1] if transposed else size
    y = box[1] + (box[3] - box[1]) * (torch.arange(rows) + 0.5) / rows
    x = box[0] + (box[2] - box[0]) * (torch.arange(columns) + 0.5) / columns
    grid = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], -1)
    options = {"padding_mode": "border", "align_corners": False}
    expected = F.grid_sample(fields[None], grid[None] * 2 - 1, **options)[0]
    expected = expected.transpose(1, 2) if transposed else expected
    found = PhotoFrame(noise(3, 18, 24), box, transposed).crop(fields, size)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_crop_of_a_field_of_one_pixel_is_constant() -> None:
    assert (PhotoFrame(noise(3, 8, 8)).crop(torch.full((1, 1, 1), 0.3), (4, 5)) == 0.3).all()


@pytest.mark.parametrize("tone", [Tone(), Tone(1.3, 1.4, 0.2, 0.3), Tone(0.5, 0.8, -0.1, 1.2)])
def test_tone_of_levels_is_the_tone_of_the_photo(tone: Tone) -> None:
    levels = (noise(3, 20, 30) * 255.99).to(torch.uint8)
    torch.testing.assert_close(tone.of_levels(levels), tone(levels / 255), atol=1e-6, rtol=0)
