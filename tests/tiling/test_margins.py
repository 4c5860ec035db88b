"""The receptive field of single modules, measured with NaN, and the tiles of the whole U-Net."""

import pytest
import torch
from torch import nn

from refusion.nets import LatentUNet
from refusion.nets.layers import ResBlock
from refusion.nets.subpixel import SubpixelConv
from refusion.tiling import blending, exact
from refusion.tiling.receptive_field import margin_before

MODULES = {
    "1x1": lambda: nn.Conv2d(1, 1, 1),
    "3x3": lambda: nn.Conv2d(1, 1, 3, padding=1),
    "7x7": lambda: nn.Conv2d(1, 1, 7, padding=3),
    "halving": lambda: nn.Conv2d(1, 1, 4, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(1, 1, 3, padding=2, dilation=2),
    "wide": lambda: nn.Conv2d(1, 1, (1, 5), padding=(0, 2)),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "doubling": lambda: SubpixelConv(nn.Conv2d(1, 1, 3, padding=1)),
    "doubling twice": lambda: nn.Sequential(
        SubpixelConv(nn.Conv2d(1, 1, 3, padding=1)), SubpixelConv(nn.Conv2d(1, 1, 3, padding=1))
    ),
    "block": lambda: ResBlock(1, 2),
    "chain": lambda: nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 4, stride=2, padding=1), nn.Identity()
    ),
}
SIDE = 64


def measured_margin(module, margin):
    """Input pixels beyond the edge of a tile that its output and `margin` pixels around it need."""
    sample = module(torch.zeros(1, 1, SIDE, SIDE))
    scale = sample.shape[-1] / SIDE
    left, right = SIDE // 4, 3 * SIDE // 4  # the tile, in pixels of the input
    first, last = int(left * scale) - margin, int(right * scale) + margin
    needed = []
    for pixel in range(SIDE):
        x = torch.zeros(1, 1, SIDE, SIDE)
        x[..., pixel] = torch.nan
        if module(x)[..., first:last].isnan().any():
            needed.append(pixel)
    return max(left - needed[0], needed[-1] + 1 - right, 0)


@pytest.mark.parametrize("margin", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_margin_is_the_measured_one(name, margin):
    module = MODULES[name]()
    found = margin_before(module, margin)
    assert found >= measured_margin(module, margin)
    # Nearest-neighbour steps round up for each step, because tiles start at multiples of strides.
    assert found <= measured_margin(module, margin) + name.startswith("doubling")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kernel_size": 5, "padding": 1}, 3),  # reaches farther to the right
        ({"kernel_size": 3, "padding": 0}, 2),
        ({"kernel_size": 4, "stride": 2, "padding": 0}, 2),
        ({"kernel_size": 2, "stride": 2, "padding": 0}, 0),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, 2),
    ],
)
def test_padding_on_one_side_only(settings, expected):
    assert margin_before(nn.Conv2d(1, 1, **settings), 0) == expected


@torch.no_grad()
def test_skips_of_a_single_tile_are_not_computed_again(monkeypatch):
    unet = LatentUNet(ch=3, ch_mult=[1, 2], embed_dim=4).eval()
    calls, encode = [], LatentUNet.fine_encode
    monkeypatch.setattr(LatentUNet, "fine_encode", lambda *a: calls.append(1) or encode(*a))
    image = torch.rand(1, 3, 30, 40)
    exact.decode_tiled(unet, image, exact.encode_tiled(unet, image, None), None)
    assert len(calls) == 1


def test_weights_of_two_tiles():
    """16 pixels in tiles of 8 that start at 0, 6 and 8; the trapezoids rise over 2 pixels."""
    windows = blending.tile_windows(16, 8, 1)
    assert [start for start, _ in windows] == [0, 6, 8]
    shape = torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 1])
    total = torch.zeros(16)
    for start, _ in windows:
        total[start : start + 8] += shape
    for start, weights in windows:
        torch.testing.assert_close(weights, shape / total[start : start + 8])


@pytest.mark.parametrize("length", range(17, 60))
def test_the_last_tile_is_up_to_align_minus_1_pixels_longer(length):
    sides = [len(weights) for _, weights in blending.tile_windows(length, 16, 4)]
    assert all(side == 16 for side in sides[:-1])
    assert len(sides) == 1 or 16 <= sides[-1] < 16 + 4
