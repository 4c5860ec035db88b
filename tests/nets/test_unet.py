"""ConditionalUNet."""

import pytest
import torch

from refusion.errors import ConfigError
from refusion.nets import ConditionalUNet
from refusion.nets.layers import ResBlock
from refusion.nets.unet import SoftmaxAttention


@pytest.mark.parametrize("depth", [1, 2, 4])
@torch.no_grad()
def test_depth(depth):
    net = ConditionalUNet(nf=4, depth=depth)
    sizes = []
    net.mid_attn.register_forward_hook(lambda module, args, out: sizes.append(out.shape))
    x = torch.rand(1, 3, 30, 41)
    assert net(x, x, 5).shape == x.shape
    multiple = net.factor
    assert multiple == 2**depth
    # All levels but the last halve the padded image.
    padded = [-(-n // multiple) * multiple for n in (30, 41)]
    assert sizes == [(1, 4 * 2**depth, *(n // 2 ** (depth - 1) for n in padded))]


@torch.no_grad()
def test_channels_of_input_and_output():
    net = ConditionalUNet(in_nc=5, out_nc=2, nf=4, depth=2)
    assert net(torch.rand(1, 5, 8, 8), torch.rand(1, 5, 8, 8), 1).shape == (1, 2, 8, 8)


def test_last_is_the_convolution_that_computes_the_output():
    net = ConditionalUNet(nf=4, depth=2)
    assert net.last is net.final_conv


@torch.no_grad()
def test_network_sees_the_difference_to_the_degraded_image():
    """Where xt = mu the first half of the first layer's input is zero."""
    net = ConditionalUNet(nf=4, depth=2)
    net.init_conv.weight[:, 3:] = 0
    a, b = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(net(a, a, 9), net(b, b, 9))


@torch.no_grad()
def test_residual_block_scales_and_shifts_with_time():
    block, x, time = ResBlock(3, 5, time_dim=8), torch.randn(2, 3, 4, 4), torch.randn(2, 8)
    scale, shift = block.mlp(time)[:, :, None, None].chunk(2, dim=1)
    silu = torch.nn.functional.silu
    h = silu(block.block1.proj(x) * (scale + 1) + shift)
    expected = silu(block.block2.proj(h)) + block.res_conv(x)
    torch.testing.assert_close(block(x, time), expected)


@torch.no_grad()
def test_unconditional_network_sees_the_state_alone():
    net = ConditionalUNet(nf=4, depth=2, conditional=False)
    assert net.init_conv.weight.shape == (4, 3, 7, 7)
    x, a, b = torch.rand(3, 1, 3, 8, 12)
    assert torch.equal(net(x, a, 9), net(x, b, 9))
    assert not torch.equal(net(a, x, 9), net(b, x, 9))


@torch.no_grad()
def test_softmax_attention_against_loops():
    layer, x = SoftmaxAttention(6, heads=2, dim_head=4).double(), torch.randn(2, 6, 3, 5).double()
    pixels = x.flatten(2).transpose(1, 2)  # (B, pixels, channels)
    q, k, v = (pixels @ w.T for w in layer.to_qkv.weight[:, :, 0, 0].chunk(3))
    mixed = torch.zeros_like(v)
    for head in (slice(0, 4), slice(4, 8)):
        for i in range(pixels.shape[1]):
            similarity = (q[:, i, None, head] * k[..., head]).sum(-1) / 2  # sqrt(dim_head)
            weights = similarity.exp() / similarity.exp().sum(dim=1, keepdim=True)
            mixed[:, i, head] = (weights[..., None] * v[..., head]).sum(dim=1)
    expected = mixed @ layer.to_out.weight[:, :, 0, 0].T + layer.to_out.bias
    torch.testing.assert_close(layer(x).flatten(2).transpose(1, 2), expected)


def test_wrong_attention():
    with pytest.raises(ConfigError, match="'sofmax'"):
        ConditionalUNet(nf=4, mid_attention="sofmax")
