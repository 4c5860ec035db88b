"""The restorer Regression with NAFNet: the photo itself is not rounded, and tiles fit together."""

from __future__ import annotations

import pytest
import torch

from refusion.checkpoint import save_checkpoint
from refusion.nets import NAFNet, SwinIR
from refusion.restorers import load_restorer
from refusion.tiling import memory

NETWORK = {
    "width": 8,
    "enc_blk_nums": [1, 1],
    "dec_blk_nums": [1, 1],
    "pixel_unshuffle": 2,
    "border": 8,
    "pool_window": 64,
}
SWINIR = {
    "embed_dim": 8,
    "depths": [1],
    "num_heads": [2],
    "window_size": 4,
    "img_size": 8,
    "unshuffle": 4,
    "upsampler": "pixelshuffledirect",
    "residual": True,
}


def photo(height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, height, width, generator=generator)


@pytest.fixture
def restorer_of(tmp_path):
    def build(kind, settings, *, trained, precision="fp32"):
        torch.manual_seed(0)
        net = kind(**settings)
        for parameter in net.parameters() if trained else ():
            torch.nn.init.normal_(parameter, 0, 0.2)
        path = tmp_path / f"{kind.__name__}_{trained}.safetensors"
        tensors = {f"network.{name}": value for name, value in net.state_dict().items()}
        config = {"task": "blind", "network": {"type": kind.__name__, **settings}}
        save_checkpoint(path, config, tensors, {})
        return load_restorer(path, device="cpu", precision=precision)

    return build


@pytest.mark.parametrize(("kind", "settings"), [(NAFNet, NETWORK), (SwinIR, SWINIR)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_untrained_network_returns_the_photo_in_every_format(
    restorer_of, kind, settings, precision
):
    """In bfloat16 a photo would have 8 bits: of 16-bit levels only about one in 256 would stay."""
    restorer = restorer_of(kind, settings, trained=False, precision=precision)
    levels = torch.arange(0, 65536, 16, dtype=torch.int32).to(torch.uint16).reshape(1, 1, 64, 64)
    levels = levels.expand(1, 3, -1, -1)
    assert torch.equal(restorer.restore(levels), levels)


def test_bfloat16_changes_the_photo_as_float32_does(restorer_of):
    lq = photo(40, 61)
    exact = restorer_of(NAFNet, NETWORK, trained=True).restore(lq)
    found = restorer_of(NAFNet, NETWORK, trained=True, precision="bf16").restore(lq)
    inside = (exact > 0) & (exact < 1)
    change = (exact - lq)[inside].norm()
    assert float((found - exact)[inside].norm() / change) < 0.2


def test_the_memory_decides_on_the_tiles_and_they_fit_together(restorer_of, monkeypatch):
    restorer, lq, reports = restorer_of(NAFNet, NETWORK, trained=True), photo(150, 200), []
    whole = restorer.restore(lq)
    channels = -(-12 * 8 // 4)  # the first level has a quarter of the pixels
    monkeypatch.setattr(memory, "CPU_BUDGET", channels * 4 * 128**2)
    tiled = restorer.restore(lq, callback=lambda *report: reports.append(report))
    # One row; 150 x 104 pixels are the widest tiles within 128 x 128, and two of them are too few.
    assert reports[-1][1:] == (3, 3)
    difference = (tiled - whole).abs().mean()
    assert 0 < float(difference) < 0.2 * float((whole - lq).abs().mean())
