"""Carrying a change from a small map to a large one: what is affine stays affine."""

import pytest
import torch

from refusion.images.resize import shrink
from refusion.tiling import guided
from refusion.tiling.guided import guided_upsample, guided_upsample_bands


def maps(small, large, channels=4):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator) for size in (small, large)]


@pytest.mark.parametrize("large", [(37, 53), (20, 9), (1, 1)])
def test_affine_change_is_done_to_the_large_map_exactly(monkeypatch, large):
    monkeypatch.setattr(guided, "SMOOTHNESS", 1e-6)
    guide, target = maps((24, 31), large)
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))

    def change(x):
        return torch.einsum("ij,bjhw->bihw", matrix, x) + 0.5

    torch.testing.assert_close(
        guided_upsample(change(guide), guide, target, (24, 31)), change(target), atol=2e-3, rtol=0
    )


def test_constant_change_stays_constant():
    guide, target = maps((6, 5), (50, 40))
    change = torch.full_like(guide, 0.25)
    torch.testing.assert_close(
        guided_upsample(change, guide, target, (6, 5)),
        torch.full_like(target, 0.25),
        atol=1e-5,
        rtol=0,
    )


def test_a_single_map_is_carried_band_by_band_to_a_photo_of_integers(monkeypatch):
    monkeypatch.setattr(guided, "SMOOTHNESS", 1e-6)
    monkeypatch.setattr(guided, "_BAND", 150)
    guide, large = maps((24, 31), (37, 53), channels=3)
    photo = (large.sigmoid() * 255).to(torch.uint8)
    value = (guide * torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    bands = list(guided_upsample_bands(value, guide, photo))
    assert [rows.start for rows, _ in bands] == list(range(0, 37, 2))
    found = torch.cat([band for _, band in bands], dim=-2)
    scaled = photo.float() / 255
    expected = scaled[:, 0] - 2 * scaled[:, 1] + 0.5 * scaled[:, 2]
    torch.testing.assert_close(found[:, 0], expected, atol=2e-3, rtol=0)


def test_edge_of_the_change_follows_the_large_map():
    """A step in the guide, changed on one side only, gives a step just as sharp."""
    guide, target = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 128, 128)
    guide[..., 8:], target[..., 64:] = 1.0, 1.0
    result = guided_upsample(guide.clone(), guide, target, (16, 16))[0, 0, 64]
    assert result[:64].max() < 0.15 and result[64:].min() > 0.7
    plain = torch.nn.functional.interpolate(guide, size=(128, 128), mode="bilinear")[0, 0, 64]
    assert plain[:64].max() > 0.4


def test_place_is_that_of_the_photo_not_of_the_padding():
    """A ramp on both maps, of which the small one has eight padded rows more."""
    guide, target = torch.zeros(1, 1, 56, 10), torch.zeros(1, 1, 192, 40)
    change = (torch.arange(56) + 0.5).view(1, 1, 56, 1).expand_as(guide)
    result = guided_upsample(change, guide, target, (48, 10))[0, 0, :, 20]
    expected = (torch.arange(192) + 0.5) / 4
    torch.testing.assert_close(result[80:112], expected[80:112], atol=1e-3, rtol=0)


def test_each_photo_of_a_batch_for_itself():
    guide, target = maps((9, 8), (20, 30))
    guide[1] *= 10
    change = guide.abs()
    together = guided_upsample(change, guide, target, (9, 8))
    for i in range(2):
        alone = guided_upsample(change[i : i + 1], guide[i : i + 1], target[i : i + 1], (9, 8))
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize(
    ("size", "expected"), [((90, 30), (30, 10)), ((20, 30), (20, 30)), ((3000, 2), (30, 1))]
)
def test_shrink(size, expected):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    small = shrink(image, 30)
    assert small.shape[-2:] == expected
    assert small.min() >= 0 and small.max() <= 1
    assert abs(small.mean() - image.mean()) < 0.02


def affine_fit_by_loops(guide, value, window, smoothness):
    """Ridge regression per window, averaged over all windows with the pixel, as the paper has it.

    guide (C, h, w) and value (h, w); borders repeat. Returns slopes (C, h, w) and offsets (h, w).
    """
    reach, (channels, height, width) = window // 2, guide.shape
    pad = torch.nn.functional.pad
    guide_wide = pad(guide[None], [reach] * 4, mode="replicate")[0]
    value_wide = pad(value[None, None], [reach] * 4, mode="replicate")[0, 0]
    mean = guide.mean()
    ridge = smoothness * ((guide - mean) ** 2).mean() + 1e-8
    slope, offset = torch.zeros(channels, height, width), torch.zeros(height, width)
    for row in range(height):
        for column in range(width):
            part = (slice(row, row + window), slice(column, column + window))
            g, v = guide_wide[(slice(None), *part)].flatten(1), value_wide[part].flatten()
            centred = g - g.mean(dim=1, keepdim=True)
            left = centred @ centred.T / g.shape[1] + ridge * torch.eye(channels)
            slope[:, row, column] = torch.linalg.solve(left, centred @ v / g.shape[1])
            offset[row, column] = v.mean() - slope[:, row, column] @ g.mean(dim=1)
    box = torch.full((1, 1, window, window), 1 / window**2)
    maps = pad(torch.cat([slope, offset[None]])[:, None], [reach] * 4, mode="replicate")
    averaged = torch.nn.functional.conv2d(maps, box)[:, 0]
    return averaged[:channels], averaged[channels]


def test_equals_the_filter_of_the_paper_written_with_loops():
    """At the size of the small map nothing is enlarged, so the two results are equal."""
    generator = torch.Generator().manual_seed(4)
    guide, value = (torch.rand(1, count, 12, 15, generator=generator) for count in (3, 1))
    slope, offset = affine_fit_by_loops(guide[0], value[0, 0], guided.WINDOW, guided.SMOOTHNESS)
    expected = (slope * guide[0]).sum(dim=0) + offset
    ((_, found),) = guided_upsample_bands(value, guide, guide)
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=0)
