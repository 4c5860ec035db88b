"""NAFNet against the published graph written out, and what its options promise."""

import pytest
import torch
import torch.nn.functional as F
from net_cases import CASES, NAFNET

from refusion.errors import ConfigError
from refusion.nets import NAFNet
from refusion.nets.layers import BiasedLayerNorm
from refusion.nets.nafnet_blocks import NAFBlock


def published_norm(x, weight, bias):
    """LayerNorm2d of the authors' code: statistics over the channels of a pixel."""
    mean = x.mean(dim=1, keepdim=True)
    variance = (x - mean).pow(2).mean(dim=1, keepdim=True)
    y = (x - mean) / (variance + 1e-6).sqrt()
    return weight[None, :, None, None] * y + bias[None, :, None, None]


def published_block(x, w):
    """NAFBlock of the authors' code; `w` are its tensors by their published names."""

    def conv(y, name, **options):
        return F.conv2d(y, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def gate(y):
        half = y.shape[1] // 2
        return y[:, :half] * y[:, half:]

    y = conv(published_norm(x, w["norm1.weight"], w["norm1.bias"]), "conv1")
    y = gate(conv(y, "conv2", padding=1, groups=y.shape[1]))
    y = conv(y * conv(y.mean(dim=(2, 3), keepdim=True), "sca.1"), "conv3")
    x = x + y * w["beta"]
    y = conv(published_norm(x, w["norm2.weight"], w["norm2.bias"]), "conv4")
    return x + conv(gate(y), "conv5") * w["gamma"]


def published_network(x, w, encoder, middle, decoder):
    """NAFNet of the authors' code, for sides that need no padding."""

    def blocks(y, prefix, count):
        for number in range(count):
            start = f"{prefix}.{number}."
            part = {k.removeprefix(start): v for k, v in w.items() if k.startswith(start)}
            y = published_block(y, part)
        return y

    y, skips = F.conv2d(x, w["intro.weight"], w["intro.bias"], padding=1), []
    for level, count in enumerate(encoder):
        y = blocks(y, f"encoders.{level}", count)
        skips.append(y)
        y = F.conv2d(y, w[f"downs.{level}.weight"], w[f"downs.{level}.bias"], stride=2)
    y = blocks(y, "middle_blks", middle)
    for level, count in enumerate(decoder):
        y = F.pixel_shuffle(F.conv2d(y, w[f"ups.{level}.0.weight"]), 2) + skips.pop()
        y = blocks(y, f"decoders.{level}", count)
    return x + F.conv2d(y, w["ending.weight"], w["ending.bias"], padding=1)


@torch.no_grad()
def test_the_network_is_the_published_graph():
    net = CASES["nafnet"].build()
    x = CASES["nafnet"].inputs(2, 24, 32)["x"]
    expected = published_network(x, net.state_dict(), *(NAFNET[key] for key in (
        "enc_blk_nums", "middle_blk_num", "dec_blk_nums"
    )))  # fmt: skip
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    assert (expected - x).abs().mean() > 0.05  # the output is not only the photo


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"pixel_unshuffle": 2, "border": 8, "pool_window": 16}])
def test_the_untrained_network_returns_the_photo(options):
    x = torch.rand(2, 3, 19, 33)
    assert torch.equal(NAFNet(**NAFNET, **options)(x), x)


@torch.no_grad()
def test_a_border_is_padding_by_reflection():
    case = CASES["nafnet"]
    net, wide = case.build(), NAFNet(**NAFNET, border=4)
    wide.load_state_dict(net.state_dict())
    x = torch.rand(1, 3, 16, 24)
    expected = net(F.pad(x, (4,) * 4, mode="reflect"))[..., 4:-4, 4:-4]
    torch.testing.assert_close(wide(x), expected)
    assert not torch.allclose(wide(x), net(x), atol=1e-3)


@torch.no_grad()
def test_a_window_makes_far_pixels_independent():
    settings = {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1], "pixel_unshuffle": 2}
    net = NAFNet(**settings, pool_window=16)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    x = torch.rand(1, 3, 16, 256)
    changed = x.clone()
    changed[..., :8] += 1
    difference = (net(changed) - net(x)).abs().amax(dim=(0, 1, 2))
    assert difference[:8].min() > 0
    assert difference[160:].max() == 0
    net.set_pool_window(None)
    assert (net(changed) - net(x)).abs().amax(dim=(0, 1, 2))[160:].max() > 0


def test_a_block_without_time_has_no_time_layer():
    names = {name.split(".")[0] for name, _ in NAFBlock(4, None).named_parameters()}
    assert "mlp" not in names
    assert "mlp" in {name.split(".")[0] for name, _ in NAFBlock(4, 16).named_parameters()}


@torch.no_grad()
def test_the_norm_with_a_bias():
    norm, x = BiasedLayerNorm(6), torch.randn(2, 6, 3, 5)
    norm.weight.normal_()
    norm.bias.normal_()
    expected = published_norm(x, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)


def test_wrong_levels():
    with pytest.raises(ConfigError, match=r"\[1, 1\] and \[1\]"):
        NAFNet(width=4, enc_blk_nums=[1, 1], dec_blk_nums=[1])
