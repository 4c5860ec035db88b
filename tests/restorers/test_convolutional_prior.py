"""A prior without attention over the whole map: it takes photos of any size at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from refusion.checkpoint import save_checkpoint
from refusion.nets import ConditionalNAFNet
from refusion.restorers import DDRM, load_prior
from refusion.restorers.ddrm.problems import denoise, super_resolution
from refusion.restorers.ddrm.restorer import sample_photos
from refusion.restorers.ddrm.sampling import DDRMSettings
from refusion.sde import SeededNoise
from refusion.tiling import memory

NETWORK = {
    "conditional": False,
    "width": 8,
    "pixel_unshuffle": 2,
    "enc_blk_nums": [1],
    "dec_blk_nums": [1],
    "pool_window": 16,
}
CONFIG = {
    "task": "ddrm_prior",
    "network": {"type": "ConditionalNAFNet", **NETWORK},
    "sde": {"type": "VPSDE", "T": 100},
    "prediction": "noise",
    "sampling": {"sampler": "posterior", "steps": 4},
}


def photo(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator) * 0.6 + 0.2


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConditionalNAFNet(**NETWORK).eval().requires_grad_(False)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
    return net


@pytest.fixture(scope="module")
def prior(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    save_checkpoint(path, CONFIG, tensors, {})
    return load_prior(path, device="cpu", precision="fp32")


def test_it_has_no_side_and_the_stride_of_its_network(prior):
    assert (prior.side, prior.factor, prior.steps) == (None, 4, 4)


@pytest.mark.parametrize("size", [(16, 24), (1, 1), (13, 30)])
def test_any_photo_is_padded_by_reflection_to_the_stride(prior, network, size):
    xt = photo(*size)
    noise = prior.predict_noise(xt, 7)
    assert noise.shape == xt.shape and noise.isfinite().all()
    height, width = size
    if height > 4:
        wide = pad(xt, (0, -width % 4, 0, -height % 4), mode="reflect")
        expected = network(wide, wide, 7)[..., :height, :width]
        torch.testing.assert_close(noise, expected, rtol=1e-4, atol=1e-5)


def test_the_memory_decides_on_its_tiles(prior, monkeypatch):
    images = photo(40, 600)
    assert prior.tile_for(images) >= 600  # 400 MB are enough for the whole photo
    per_pixel = memory.activation_bytes(prior.network, torch.float32)
    assert per_pixel == 12 * 8 // 4 * 4  # the first level has a quarter of the pixels
    monkeypatch.setattr(memory, "CPU_BUDGET", per_pixel * 130**2)
    assert prior.tile_for(images) == 128
    assert prior.tile_for(torch.cat([images] * 4)) == 64


def test_tiles_start_at_multiples_of_the_stride(prior, monkeypatch):
    """The strided layers then use the same pixels as on the whole photo."""
    monkeypatch.setattr(memory, "CPU_BUDGET", 0)  # the smallest tiles
    seen = []

    def recorded(xt, t):
        seen.append(tuple(xt.shape[-2:]))
        return prior.predict_noise(xt, t)

    own = type(prior)(**{**vars(prior), "predict_noise": recorded})
    DDRM(own, denoise(), 0.1, DDRMSettings(steps=1)).restore(photo(64, 131))
    # Three tiles of nearly equal sides; all but the last one have a multiple of 4.
    assert seen == [(64, 56), (64, 56), (64, 55)]


def test_tiles_hardly_change_the_result(prior):
    """Its channel attention has a window, so a tile with a margin gives the pixels of the photo."""
    operator = super_resolution(2).operator((3, 64, 192))
    y = operator.forward(photo(64, 192))
    settings = DDRMSettings(steps=4)
    results = [
        sample_photos(prior, operator, y, 0.05, settings, SeededNoise(0), tile)
        for tile in ("auto", None, 96)
    ]
    assert torch.equal(results[0], results[1])  # the photo fits into one tile
    change = (results[2] - results[0]).abs()
    assert float(change.max()) > 0
    assert float(change.mean()) < 0.01 * float(results[0].std())


def test_bfloat16_is_close_to_float32(prior, network, tmp_path):
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    save_checkpoint(tmp_path / "prior.safetensors", CONFIG, tensors, {})
    narrow = load_prior(tmp_path / "prior.safetensors", device="cpu", precision="bf16")
    xt = photo(40, 56)
    expected, found = (each.predict_noise(xt, 30) for each in (prior, narrow))
    assert found.dtype == torch.float32
    error = float((found - expected).norm() / expected.norm())
    assert 1e-4 < error < 0.03
