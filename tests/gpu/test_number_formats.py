"""Number formats of networks on a GPU."""

import pytest
import tiny_models
import torch

from refusion.devices.precision import PRECISIONS, choose_precision
from refusion.nets.nafnet_blocks import ChannelPool
from refusion.restorers import load_restorer


def formats(device):
    """The CPU has no float16."""
    return ["fp32", "bf16", *["fp16"] * (device == "cuda")]


def test_auto_is_bfloat16_on_a_card_that_multiplies_it(device):
    if device == "cuda":
        is_new = torch.cuda.get_device_capability() >= (8, 0)
        expected = torch.bfloat16 if is_new else torch.float32
        assert choose_precision("auto", torch.device(device)) == expected
    assert choose_precision("auto", torch.device(device)) in PRECISIONS.values()


@pytest.mark.parametrize("window", [None, 64])
def test_the_sums_of_the_channel_attention_do_not_overflow(window, device):
    """The sum over a map of 512 x 512 pixels is far beyond 65504, the largest float16."""
    pool = ChannelPool()
    pool.window = window
    for name in formats(device):
        x = torch.full((1, 4, 512, 512), 1000.0, device=device, dtype=PRECISIONS[name])
        for layout in (torch.contiguous_format, torch.channels_last):
            mean = pool(x.contiguous(memory_format=layout))
            assert torch.isfinite(mean).all()
            torch.testing.assert_close(mean.float(), torch.full_like(mean.float(), 1000.0))


@pytest.mark.parametrize("kind", ["pixel", "latent", "lens", "stereo"])
def test_every_format_gives_nearly_the_same_photo(kind, device, tiny_checkpoint):
    restorer = load_restorer(tiny_checkpoint(kind), device="cpu", precision="fp32")
    coarse = torch.rand(
        1, 3 * restorer.info.views, 6, 8, generator=torch.Generator().manual_seed(1)
    )
    lq = torch.nn.functional.interpolate(coarse, size=(150, 200), mode="bilinear")
    conditions = tiny_models.known_of(kind, lq)
    expected = restorer.restore(lq, conditions=conditions)
    for name in formats(device):
        own = restorer.to(device, name)
        assert own.info.precision == name
        restored = own.restore(lq, conditions=conditions)
        assert float((restored - expected).abs().mean()) < 3 / 255
