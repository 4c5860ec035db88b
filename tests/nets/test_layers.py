"""Layers shared by the networks."""

import math

import pytest
import torch

from refusion.nets.layers import (
    LayerNorm,
    LinearAttention,
    SinusoidalEmbedding,
    as_times,
    pad_to_multiple,
)


def reflected_then_repeated(position, length):
    """Pixel that padding shows at `position`: mirrored at the last pixel, then the first one."""
    return position if position < length else max(0, 2 * (length - 1) - position)


@pytest.mark.parametrize("multiple", [1, 2, 8, 16])
def test_padding_reflects_then_repeats(multiple):
    for h in range(1, 34):
        w = 34 - h
        x = torch.arange(h * w, dtype=torch.float32).reshape(1, 1, h, w)
        padded = pad_to_multiple(x, multiple, "reflect")
        height, width = padded.shape[-2:]
        assert (height, width) == tuple(multiple * math.ceil(n / multiple) for n in (h, w))
        rows = [reflected_then_repeated(i, h) for i in range(height)]
        columns = [reflected_then_repeated(j, w) for j in range(width)]
        assert torch.equal(padded, x[:, :, rows][..., columns]), (h, w)


def test_padding_with_zeros():
    padded = pad_to_multiple(torch.ones(1, 2, 3, 5), 4, "constant")
    assert padded.shape == (1, 2, 4, 8)
    assert padded.sum() == padded[..., :3, :5].sum() == 30


def test_layer_norm_has_unit_channels_at_every_pixel():
    norm, x = LayerNorm(6), 3 + 2 * torch.rand(2, 6, 4, 5)
    variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(norm(x), (x - mean) / (variance + 1e-5).sqrt())
    norm.g.data.mul_(2)
    torch.testing.assert_close(norm(x), 2 * (x - mean) / (variance + 1e-5).sqrt())


def test_embedding_of_time():
    embed = SinusoidalEmbedding(8)
    values = embed(torch.tensor([0, 1, 100]))[2].tolist()
    phases = [100 / 10000 ** (i / 3) for i in range(4)]
    assert values == pytest.approx([*map(math.sin, phases), *map(math.cos, phases)], abs=1e-5)
    assert embed(torch.tensor([0]))[0].tolist() == [0] * 4 + [1] * 4
    assert not embed.state_dict()


def test_embedding_tells_times_apart_in_bfloat16():
    embed = SinusoidalEmbedding(64).bfloat16()
    features = embed(torch.arange(1001))
    assert features.dtype == torch.bfloat16
    # Rounding t itself to 8 bits would make 997..1000 one time.
    assert len(features.unique(dim=0)) == 1001


@torch.no_grad()
def test_linear_attention_against_loops():
    layer, x = LinearAttention(5, heads=2, dim_head=3), torch.randn(1, 5, 2, 4)
    qkv = layer.to_qkv(x).flatten(2)[0].reshape(3, 2, 3, 8)
    out = torch.zeros(2, 3, 8)
    for head in range(2):
        q, k, v = qkv[:, head]
        for pixel in range(8):
            query = q[:, pixel].softmax(0) / math.sqrt(3)
            for other in range(8):
                key = k.softmax(1)[:, other]
                out[head, :, pixel] += (query @ key) * v[:, other] / 8
    expected = layer.to_out(out.reshape(1, 6, 2, 4))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_times():
    device = torch.device("cpu")
    for t in (7, torch.tensor(7), torch.tensor([7])):
        assert as_times(t, 3, device).tolist() == [7, 7, 7]
    assert as_times(torch.tensor([1, 2]), 2, device).tolist() == [1, 2]
