"""Four small kernels do what doubling and one large kernel do."""

import pytest
import torch
from torch import nn

from refusion.nets.layers import upsample
from refusion.nets.subpixel import SubpixelConv, use_subpixel_convs
from refusion.tiling.receptive_field import margin_before


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4), (16, 9)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_doubling_and_convolving(size, bias):
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=bias)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
        torch.testing.assert_close(SubpixelConv(conv)(x), expected, rtol=1e-5, atol=1e-5)


def test_reach_is_that_of_the_pair():
    pair = upsample(2, 3)
    for margin in range(9):
        assert margin_before(SubpixelConv(pair[1]), margin) == margin_before(pair, margin)


def test_other_pairs_stay():
    kept = [
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2, 2, 3, padding=1)),
        nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.Upsample(scale_factor=4), nn.Conv2d(2, 2, 3, padding=1)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)),
    ]
    network = nn.ModuleList([*kept, upsample(2, 2)])
    use_subpixel_convs(network)
    assert [isinstance(child, SubpixelConv) for child in network] == [False] * 4 + [True]
