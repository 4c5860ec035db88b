"""A card without enough memory gives smaller tiles, and the same photo."""

import logging

import pytest
import tiny_models
import torch

from refusion.nets import LatentUNet
from refusion.restorers import load_restorer

SIDES = {"cpu": 512, "cuda": 2048}
SMALL = 300  # largest tile on the CPU
SPARE = 500 * 2**20  # bytes for the tiles; one of 2048 pixels needs more than twice as much


@pytest.fixture
def little_memory(device, monkeypatch):
    """Start the shortage: on the CPU, a large tile raises the error that a full card raises."""
    encode = LatentUNet.fine_encode

    def fails(unet, x):
        if max(x.shape[-2:]) > SMALL:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return encode(unet, x)

    def start():
        if device == "cpu":
            monkeypatch.setattr(LatentUNet, "fine_encode", fails)
            return
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = torch.cuda.memory_reserved() + SPARE
        torch.cuda.set_per_process_memory_fraction(allowed / total)

    yield start
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_tiles_are_halved(device, little_memory, tiny_checkpoint, caplog):
    side = SIDES[device]
    restorer = load_restorer(tiny_checkpoint("latent"), device=device, precision="fp32")
    coarse = torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    lq = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    lq = (lq * 255).round().to(torch.uint8)
    conditions = tiny_models.known_of("latent", lq)
    expected = restorer.restore(lq, tile=128, conditions=conditions)
    little_memory()
    with caplog.at_level(logging.WARNING):
        restored = restorer.restore(lq, tile=side, conditions=conditions)
    assert "out of memory; trying again with tiles of" in caplog.text
    assert int((restored.int() - expected.int()).abs().max()) <= 2
