"""ConditionalNAFNet, its local pooling, and its stereo and bokeh variants."""

import copy

import pytest
import torch
from net_cases import CASES, STEREO
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from refusion.errors import ConfigError
from refusion.nets import ConditionalNAFNet
from refusion.nets.nafnet_blocks import ChannelPool, NAFBlock
from refusion.nets.stereo import StereoCrossAttention, join_views, split_views

PIXEL, STEREO_CASE = CASES["pixel"], CASES["stereo"]


def pool(window):
    layer = ChannelPool()
    layer.window = window
    return layer


@pytest.mark.parametrize("variant", [{}, {"lens": True}, {"stereo": True}])
@torch.no_grad()
def test_block_is_the_identity_at_the_start(variant):
    block, x = NAFBlock(4, 16, **variant), torch.randn(2, 4, 8, 12)
    assert torch.equal(block(x, torch.randn(2, 16), torch.randn(2, 16)), x)


@torch.no_grad()
def test_folded_network_is_the_network_of_the_folded_image():
    plain = CASES["pixel"].net(img_channel=12, width=4, enc_blk_nums=[1, 2], dec_blk_nums=[1, 1])
    folded = CASES["folded"].build()
    plain.eval().load_state_dict(folded.state_dict())
    inputs = CASES["folded"].inputs(2, 16, 24)
    small = {name: pixel_unshuffle(inputs[name], 2) for name in ("xt", "mu")}
    # Folding sorts channels by image channel; xt - mu and mu are folded one after the other.
    expected = pixel_shuffle(plain(**small, t=inputs["t"]), 2)
    torch.testing.assert_close(folded(**inputs), expected)
    with pytest.raises(ConfigError, match="pixel_unshuffle"):
        ConditionalNAFNet(pixel_unshuffle=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (5, 70), (33, 20)])
def test_the_output_may_have_other_channels_and_a_reflected_border(size):
    settings = {"width": 4, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1], "out_channel": 6}
    net = ConditionalNAFNet(**settings, border=8, pixel_unshuffle=2).eval()
    xt, mu = torch.rand(2, 2, 3, *size)
    assert net(xt, mu, 7).shape == (2, 6, *size)


@torch.no_grad()
def test_a_reflected_border_is_padding_by_hand():
    settings = {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1], "dark_windows": [3]}
    net, plain = ConditionalNAFNet(**settings, border=6), ConditionalNAFNet(**settings)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    plain.load_state_dict(net.state_dict())
    mu = torch.rand(1, 3, 20, 24)
    wide = torch.nn.functional.pad(mu, (6,) * 4, mode="reflect")
    expected = plain(wide, wide, 5)[..., 6:-6, 6:-6]
    # The dark channel of the wide photo sees reflected pixels, that of the photo does not.
    found = net(mu, mu, 5)
    torch.testing.assert_close(
        found[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], rtol=0.1, atol=0.1
    )
    assert not torch.allclose(found, plain(mu, mu, 5), rtol=0.1, atol=0.1)


@torch.no_grad()
def test_a_guide_is_seen_where_it_is():
    net = ConditionalNAFNet(width=4, enc_blk_nums=[1], dec_blk_nums=[1], guide=2, pool_window=4)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    xt, mu, guide = torch.rand(1, 3, 20, 60), torch.rand(1, 3, 20, 60), torch.rand(1, 2, 20, 60)
    changed = guide.clone()
    changed[..., 30:] = 0
    difference = net(xt, mu, 3, guide=changed) - net(xt, mu, 3, guide=guide)
    assert float(difference[..., 30:].abs().max()) > 1e-3
    assert float(difference[..., :10].abs().max()) == 0
    with pytest.raises(ConfigError, match="stereo"):
        ConditionalNAFNet(width=4, enc_blk_nums=[1], dec_blk_nums=[1], guide=2, stereo=True)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 6, 7])
def test_local_pool_against_loops(window):
    height, width = 6, 9
    x = torch.rand(1, 2, height, width, dtype=torch.float64)
    rows, columns = min(window, height), min(window, width)
    expected = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            top = min(max(i - (rows - 1) // 2, 0), height - rows)
            left = min(max(j - (columns - 1) // 2, 0), width - columns)
            seen = x[..., top : top + rows, left : left + columns]
            expected[..., i, j] = seen.mean(dim=(-2, -1))
    torch.testing.assert_close(pool(window)(x), expected)


@pytest.mark.parametrize("window", [1, 3, 4, 10, 99, None])
def test_pooling_keeps_a_constant_map(window):
    x = torch.tensor([0.25, -3.0]).reshape(1, 2, 1, 1).expand(1, 2, 7, 11)
    y = pool(window)(x)
    torch.testing.assert_close(y.expand_as(x), x)


@torch.no_grad()
def test_window_larger_than_the_image_pools_globally():
    net, inputs = PIXEL.build(), PIXEL.inputs(1, 20, 28)
    whole = PIXEL.run(net, inputs)
    net.set_pool_window(28)
    assert torch.equal(PIXEL.run(net, inputs), whole)
    net.set_pool_window(12)
    assert not torch.allclose(PIXEL.run(net, inputs), whole, atol=1e-3)
    net.set_pool_window(None)
    assert torch.equal(PIXEL.run(net, inputs), whole)


@torch.no_grad()
def test_window_halves_per_level():
    net = CASES["local"].build()
    net.set_pool_window(40)
    windows = [stack[0].sca[0].window for stack in (*net.encoders, net.middle_blks, *net.decoders)]
    assert windows == [40, 20, 10, 20, 40]
    assert all(block.sca[0].window == 20 for block in net.encoders[1])


@torch.no_grad()
def test_local_pooling_makes_far_pixels_independent():
    """With a window, the network is local: what TLC needs, and exact tiling too."""
    case = CASES["local"]
    net, inputs = case.build(), case.inputs(1, 16, 256)
    output = case.run(net, inputs)
    inputs["xt"][..., :8] += 1
    changed = (case.run(net, inputs) - output).abs().amax(dim=(0, 1, 2))
    assert changed[:8].min() > 0
    assert changed[160:].max() == 0


@torch.no_grad()
def test_wirings_share_weights_and_differ():
    settings = {**PIXEL.settings, "wiring": "latent"}
    pixel, latent = PIXEL.build(), ConditionalNAFNet(**settings)
    latent.load_state_dict(pixel.state_dict())
    inputs = PIXEL.inputs(1, 16, 16)
    features = pixel.intro(torch.cat([inputs["xt"] - inputs["mu"], inputs["mu"]], dim=1))
    skip = torch.nn.functional.conv2d(features, pixel.ending.weight, padding=1)
    # The latent wiring adds the intro's features before the last, linear, layer.
    torch.testing.assert_close(latent(**inputs), pixel(**inputs) + skip, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_unconditional_network_sees_the_state_alone():
    net = CASES["denoise"].build()
    assert net.intro.weight.shape[1] == 3
    x, a, b = torch.rand(3, 1, 3, 8, 12)
    assert torch.equal(net(x, a, 9), net(x, b, 9))
    assert not torch.equal(net(a, x, 9), net(b, x, 9))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"wiring": "latnet"}, "'latnet'"),
        ({"enc_blk_nums": [1, 1], "dec_blk_nums": [1]}, r"\[1, 1\] and \[1\]"),
    ],
)
def test_wrong_settings(settings, named):
    with pytest.raises(ConfigError, match=named):
        ConditionalNAFNet(width=4, **settings)


def test_views_join_and_split():
    x = torch.rand(3, 8, 2, 5)
    assert torch.equal(split_views(join_views(x)), x)
    assert torch.equal(join_views(x)[:3], x[:, :4])


def switch_fusion_off(net):
    for module in net.modules():
        if isinstance(module, StereoCrossAttention):
            module.beta.zero_()
            module.gamma.zero_()


@torch.no_grad()
def test_stereo_without_fusion_is_one_network_per_view():
    stereo, mono = STEREO_CASE.build(), ConditionalNAFNet(**STEREO)
    switch_fusion_off(stereo)
    state = {k: v for k, v in stereo.state_dict().items() if ".fusion." not in k}
    mono.load_state_dict(state)
    inputs = STEREO_CASE.inputs(2, 15, 34)
    output = stereo(**inputs)
    for view in (slice(0, 3), slice(3, 6)):
        alone = mono(inputs["xt"][:, view], inputs["mu"][:, view], inputs["t"])
        torch.testing.assert_close(output[:, view], alone, rtol=1e-4, atol=1e-5)


def fusion(c=4):
    layer = StereoCrossAttention(c)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


@pytest.mark.parametrize("changed", [0, 1], ids=["left", "right"])
@torch.no_grad()
def test_views_see_only_the_same_rows_of_each_other(changed):
    layer, x = fusion(), torch.randn(2, 4, 16, 24)
    output = layer(x)
    x[changed, :, 4:8] += torch.randn(4, 4, 24)
    difference = (layer(x) - output).abs().amax(dim=(1, 3))  # (view, row)
    assert (difference[:, 4:8] > 0).all()
    assert (difference[:, :4] == 0).all() and (difference[:, 8:] == 0).all()


@torch.no_grad()
def test_fusion_is_symmetric_in_the_views():
    layer, x = fusion(), torch.randn(2, 4, 8, 20)
    mirrored = copy.deepcopy(layer)
    pairs = ("norm_l", "norm_r"), ("l_proj1", "r_proj1"), ("l_proj2", "r_proj2"), ("beta", "gamma")
    for left, right in pairs:
        setattr(mirrored, left, getattr(layer, right))
        setattr(mirrored, right, getattr(layer, left))
    torch.testing.assert_close(mirrored(x.flip(0)).flip(0), layer(x))


def test_the_channel_average_of_a_large_half_precision_map_is_finite():
    """Its sum is 200 * 512 * 512, far above 65504."""
    x = torch.full((1, 2, 512, 512), 200.0, dtype=torch.float16)
    y = ChannelPool()(x)
    assert y.dtype == torch.float16
    assert y.flatten().tolist() == [200.0, 200.0]


@torch.no_grad()
def test_a_network_that_does_not_see_the_state():
    settings = {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1], "dark_windows": [3]}
    net = ConditionalNAFNet(**settings, sees_state=False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    xt, mu = torch.rand(2, 2, 3, 20, 24)
    assert torch.equal(net(xt, mu, 7), net(torch.zeros_like(xt), mu, 90))
    assert not torch.allclose(net(xt, mu, 7), net(xt, xt, 7))
    assert (net.sees_state, ConditionalNAFNet(**settings).sees_state) == (False, True)
    assert net.intro.in_channels == 3 + 1
    with pytest.raises(ConfigError, match="sees_state"):
        ConditionalNAFNet(width=4, sees_state=False, conditional=False)
