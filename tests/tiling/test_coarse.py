"""The coarse level in tiles and bands equals the whole."""

import random

import pytest
import torch

from refusion.nets import LatentUNet
from refusion.tiling import coarse


def unet_of(depth, seed):
    torch.manual_seed(seed)
    return LatentUNet(ch=4, ch_mult=[1, 2, 1, 2][:depth], embed_dim=4).eval().requires_grad_(False)


@pytest.mark.parametrize("case", range(8))
def test_tiled_equals_whole(case, monkeypatch):
    draw = random.Random(case)
    unet = unet_of(draw.choice([1, 2, 4]), case)
    size = draw.randint(1, 40), draw.randint(1, 40)
    x = torch.randn(2, unet.encoder[-1][0].block1.proj.in_channels, *size)
    z, skips = unet.coarse_encode(x)
    expected = unet.coarse_decode(z, skips)
    for tile, band in ((None, 2**20), (draw.randint(1, 30), draw.randint(1, 200))):
        monkeypatch.setattr(coarse, "_BAND", band)
        own_z, own_skips = coarse.coarse_encode(unet, x, tile)
        for own, other in ((own_z, z), *zip(own_skips, skips, strict=True)):
            torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
        result = coarse.coarse_decode(unet, z, skips, tile)
        atol = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=atol)


def test_softmax_over_pixels_survives_large_keys(monkeypatch):
    """Without the running maximum the exponentials of these keys overflow."""
    unet, x = unet_of(2, 0), torch.randn(1, 4, 9, 11)
    attention = unet.encoder[-1][2]
    attention.fn.fn.to_qkv.weight.mul_(500)
    expected = attention(x)
    for band in (1, 50, 1000):
        monkeypatch.setattr(coarse, "_BAND", band)
        result = x.clone()
        coarse._attend(attention, result)
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
