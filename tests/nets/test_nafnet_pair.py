"""Two networks side by side give what each of them gives."""

import torch

from refusion.nets import ConditionalNAFNet, NAFNetPair

SETTINGS = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1],
            "out_channel": 5, "border": 4, "pixel_unshuffle": 2, "dark_windows": [3]}  # fmt: skip


def test_the_output_is_that_of_each_network():
    pair = NAFNetPair(**SETTINGS).eval()
    alone = ConditionalNAFNet(**SETTINGS, sees_state=False).eval()
    state, mu = torch.rand(2, 2, 3, 18, 23, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = pair(state, mu, 5)
        assert output.shape == (2, 10, 18, 23)
        for network, part in zip(pair.networks, output.chunk(2, 1), strict=True):
            alone.load_state_dict(network.state_dict())
            assert torch.equal(alone(mu, mu, 0), part)
    assert not torch.equal(*output.chunk(2, 1))


def test_how_it_is_used_is_that_of_its_networks():
    pair, alone = NAFNetPair(**SETTINGS), ConditionalNAFNet(**SETTINGS, sees_state=False)
    assert not pair.sees_state
    assert (pair.factor, pair.channels_at_once) == (alone.factor, alone.channels_at_once)
