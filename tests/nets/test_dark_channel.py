"""The dark channel against loops, and as what a network is told."""

import pytest
import torch

from refusion.errors import ConfigError
from refusion.nets import ConditionalNAFNet
from refusion.nets.dark_channel import dark_channel

SMALL = {"width": 4, "enc_blk_nums": [1], "dec_blk_nums": [1]}


@pytest.mark.parametrize("window", [1, 3, 7])
def test_against_loops(window):
    image, reach = torch.rand(2, 3, 5, 8), window // 2
    expected = torch.empty(2, 1, 5, 8)
    for row in range(5):
        for column in range(8):
            part = image[:, :, max(0, row - reach) : row + reach + 1]
            part = part[..., max(0, column - reach) : column + reach + 1]
            expected[:, 0, row, column] = part.amin(dim=(1, 2, 3))
    assert torch.equal(dark_channel(image, window), expected)


def test_haze_lifts_it_by_what_it_adds():
    """I = J t + A (1 - t): dark(I) = dark(J) t + A (1 - t) for grey A."""
    clear = torch.rand(1, 3, 9, 9)
    hazy = clear * 0.4 + 0.8 * 0.6
    torch.testing.assert_close(dark_channel(hazy, 5), dark_channel(clear, 5) * 0.4 + 0.48)


@torch.no_grad()
def test_a_network_sees_the_dark_channels_of_mu():
    """It is the network that is told them as a guide, and mu alone decides them."""
    windows = (3, 9)
    told = ConditionalNAFNet(**SMALL, guide=2)
    for parameter in told.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    net = ConditionalNAFNet(**SMALL, dark_windows=windows)
    net.load_state_dict(told.state_dict())
    xt, mu = torch.rand(1, 3, 21, 30), torch.rand(1, 3, 21, 30)
    guide = torch.cat([dark_channel(mu, window) for window in windows], dim=1)
    assert torch.equal(net(xt, mu, 7), told(xt, mu, 7, guide=guide))


@pytest.mark.parametrize(
    "wrong", [{"img_channel": 8}, {"stereo": True}, {"dark_windows": [4]}, {"dark_windows": [-1]}]
)
def test_refused_where_there_is_no_photo_or_no_middle(wrong):
    with pytest.raises(ConfigError, match="dark_windows"):
        ConditionalNAFNet(**SMALL | {"dark_windows": [3]} | wrong)
