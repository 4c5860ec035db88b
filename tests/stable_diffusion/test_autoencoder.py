"""Latents of photos, whole and in tiles; photos of any size; formats that overflow."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from refusion.errors import RefusionError
from refusion.sde import SeededNoise
from refusion.stable_diffusion import (
    decode_latent,
    encode_photo,
    enlarged,
    load_stable_diffusion,
    on_canvas,
    retry_in_float32,
)
from refusion.stable_diffusion.autoencoder import _small_copy
from refusion.stable_diffusion.frame import in_float32
from refusion.stable_diffusion.norms import fixed_norms, measure_norms
from refusion.tiling.blending import blend_scaled


@pytest.fixture(scope="module")
def sd(tiny_sd):
    return load_stable_diffusion(tiny_sd, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def photo(height, width):
    """Smooth, brighter to the right."""
    rough = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(rough, (height, width), mode="bicubic").clamp(0, 1)
    return smooth * torch.linspace(0.2, 1, width)


def test_mean_and_draw_of_the_posterior(sd):
    image = photo(12, 20)
    z = encode_photo(sd, image)
    theirs = sd.vae.encode(2 * image - 1).latent_dist
    scale = sd.vae.config.scaling_factor
    assert torch.allclose(z, theirs.mode() * scale, atol=1e-6)
    drawn = encode_photo(sd, image, noise=SeededNoise(3).initial)
    noise = SeededNoise(3).initial(z)
    assert torch.allclose(drawn, (theirs.mean + theirs.std * noise) * scale, atol=1e-6)
    decoded = sd.vae.decode(z / scale).sample
    assert torch.allclose(decode_latent(sd, z), (decoded + 1) / 2, atol=1e-6)


def test_one_tile_is_no_tile(sd):
    image = photo(16, 16)
    assert torch.equal(encode_photo(sd, image, tile=16), encode_photo(sd, image))
    z = encode_photo(sd, image)
    assert torch.equal(decode_latent(sd, z, tile=17), decode_latent(sd, z))


def test_colours_of_tiles_do_not_drift(sd):
    """Mean colour of each tile, against the whole photo's and beside what plain tiles do."""

    def drift(tiled, whole, side):
        means = F.avg_pool2d(tiled - whole, side)
        return (means - means.mean(dim=(-2, -1), keepdim=True)).abs().mean().item()

    image, scale = photo(128, 128), sd.vae.config.scaling_factor
    latent, z = encode_photo(sd, image), 10 * encode_photo(sd, image)
    plain = (blend_scaled(lambda x: sd.vae.decode(x).sample, (z / scale,), 16, 1, 2, 1) + 1) / 2
    whole = decode_latent(sd, z)
    assert drift(decode_latent(sd, z, tile=32), whole, 32) < 0.5 * drift(plain, whole, 32)
    means = blend_scaled(lambda x: sd.vae.encode(x).latent_dist.mean, (2 * image - 1,), 32, 2, 1, 2)
    assert drift(encode_photo(sd, image, 32), latent, 16) < drift(means * scale, latent, 16)


def test_the_small_copy_has_the_statistics_and_the_values_of_the_whole():
    """Statistics of a copy that was averaged would be those of a blurred photo."""
    draw = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0])
    board = torch.randint(0, 2, (1, 2, 60, 90), generator=draw)
    whole = board * scale[:, None, None] + shift[:, None, None]
    small = _small_copy(whole, 40, 8)
    assert small.shape == (1, 2, 24, 40)
    for moment in (torch.mean, torch.std):
        expected = moment(whole, dim=(-2, -1))
        torch.testing.assert_close(moment(small, dim=(-2, -1)), expected, rtol=2e-3, atol=1e-4)
    assert [len(channel.unique()) for channel in small[0]] == [2, 2]


def test_norms_with_their_own_statistics_change_nothing(sd):
    z = encode_photo(sd, photo(12, 20)).repeat(2, 1, 1, 1)
    z[1] *= 3
    expected = decode_latent(sd, z)
    moments = measure_norms(sd.vae, lambda: decode_latent(sd, z))
    assert len(moments) == 14
    with fixed_norms(moments):
        assert torch.allclose(decode_latent(sd, z), expected, atol=1e-5)
        assert not torch.allclose(decode_latent(sd, z.flip(0)), expected.flip(0), atol=1e-2)
    assert torch.equal(decode_latent(sd, z), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (16, 16), (23, 18), (40, 64)])
def test_any_size_goes_on_the_canvas(sd, size):
    image, seen = photo(*size), []

    def work(canvas):
        seen.append(canvas.shape)
        return canvas

    same = on_canvas(sd, image, work)
    assert same.shape == image.shape and (same - image).abs().mean() < 0.04
    sides = seen[0][-2:]
    assert all(side % 4 == 0 for side in sides)
    assert min(sides) >= sd.side or max(sides) == 4 * sd.side
    if min(size) >= sd.side:
        assert torch.equal(same, image)


def test_a_strip_does_not_become_a_giant(sd):
    seen = []
    for size in ((1, 3000), (2, 30)):
        on_canvas(sd, photo(*size), lambda canvas: seen.append(canvas.shape[-2:]) or canvas)
    assert seen == [(4, 3000), (4, 64)]


def test_the_canvas_is_reduced_by_a_mean_of_its_pixels(sd):
    """A pattern of pixels that goes onto a canvas 16 times as large comes back gray."""
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2

    def work(canvas):
        return board.float().expand(1, 3, -1, -1)

    assert torch.allclose(on_canvas(sd, photo(4, 4), work), torch.tensor(0.5), atol=0.05)


def test_enlarging_is_that_of_pillow():
    levels = torch.randint(70, 180, (9, 14, 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(levels.to(torch.uint8).numpy()).resize((42, 27), Image.BICUBIC)
    found = enlarged(levels.permute(2, 0, 1)[None] / 255, 3)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    assert (found - expected).abs().max() < 1.01 / 255


def test_each_parameter_comes_back_in_its_own_format(tiny_sd):
    """As adapters in training, which are wider than the network they adapt."""
    sd = load_stable_diffusion(tiny_sd, device="cpu", precision="bf16")
    trained = sd.unet.conv_out.weight
    trained.data = trained.data.float() + 1e-6
    kept = trained.clone()
    with in_float32(*sd.networks()):
        assert {p.dtype for network in sd.networks() for p in network.parameters()} == {kept.dtype}
    assert torch.equal(trained, kept) and trained.dtype == torch.float32
    assert sd.vae.dtype == sd.unet.conv_in.weight.dtype == torch.bfloat16


def test_narrow_formats_fall_back(tiny_sd, caplog):
    sd = load_stable_diffusion(tiny_sd, device="cpu", precision="bf16")
    kept = sd.vae.decoder.conv_in.weight.clone()
    formats = []

    def run():
        formats.append(sd.dtype)
        return torch.tensor(float("nan") if sd.dtype == torch.bfloat16 else 1.0)

    with caplog.at_level(logging.WARNING):
        assert retry_in_float32(run, "DiffBIR", *sd.networks()) == 1
    assert formats == [torch.bfloat16, torch.float32] and "again in fp32" in caplog.text
    assert sd.dtype == torch.bfloat16 and torch.equal(sd.vae.decoder.conv_in.weight, kept)
    with pytest.raises(RefusionError, match="DiffBIR gave values that are not finite"):
        retry_in_float32(lambda: torch.tensor(float("inf")), "DiffBIR", *sd.networks())


def test_bf16_is_near(sd, tiny_sd):
    narrow = load_stable_diffusion(tiny_sd, device="cpu", precision="bf16")
    image = photo(16, 16)
    z = encode_photo(sd, image)
    assert torch.allclose(encode_photo(narrow, image), z, atol=0.05 * z.std().item() + 0.01)
    assert torch.allclose(decode_latent(narrow, z), decode_latent(sd, z), atol=0.1)
