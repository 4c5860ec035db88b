"""Exact tiles of the latent U-Net equal the whole; blended tiles are a partition of unity."""

import random
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import avg_pool2d

from refusion.devices.precision import cast_network
from refusion.errors import ConfigError
from refusion.nets import ConditionalNAFNet, ConditionalUNet, LatentUNet
from refusion.nets.layers import pad_to_multiple
from refusion.tiling import blending, exact, memory
from refusion.tiling.receptive_field import Halo, halo_of, margin_before
from refusion.tiling.regions import tile_regions

SIDES = [1, 2, 7, 15, 16, 17, 33, 64, 101, 150]


def unet_of(depth, seed=0, fold=1):
    torch.manual_seed(seed)
    return LatentUNet(ch=3, ch_mult=[1, 2, 1, 2][:depth], embed_dim=4, pixel_unshuffle=fold).eval()


def whole(unet, image):
    latent = unet.encode(image)
    return latent.z, unet.decode(latent.z, latent.skips, latent.size)


@pytest.mark.parametrize("case", range(24))
@torch.no_grad()
def test_tiled_equals_whole(case):
    draw = random.Random(case)
    unet = unet_of(draw.choice([1, 2, 3, 4, 4]), case, fold=draw.choice([1, 1, 2, 3]))
    height, width = draw.choice(SIDES), draw.choice(SIDES)
    image = torch.rand(draw.choice([1, 2]), 3, height, width)
    z, expected = whole(unet, image)
    latent = exact.encode_tiled(unet, image, draw.randint(1, 120))
    result = exact.decode_tiled(unet, image, latent, draw.randint(1, 120))
    assert latent.size == (height, width)
    torch.testing.assert_close(latent.z, z, rtol=1e-5, atol=1e-5 * float(z.abs().max()))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", range(6))
@torch.no_grad()
def test_a_guide_is_tiled_with_the_photo(case):
    """Floats or integers, whatever the other is: what the network sees is one map of 5 channels."""
    draw = random.Random(case)
    torch.manual_seed(case)
    unet = LatentUNet(in_ch=5, ch=3, ch_mult=[1, 2, 1], embed_dim=4).eval()
    size = draw.choice(SIDES), draw.choice(SIDES)
    image, guide = torch.rand(2, 3, *size), (torch.rand(2, 2, *size) * 65535).to(torch.uint16)
    both = torch.cat([image, guide.float() / 65535], dim=1)
    z, expected = whole(unet, both)
    latent = exact.encode_tiled(unet, image, draw.randint(1, 120), guide=guide)
    result = exact.decode_tiled(unet, image, latent, draw.randint(1, 120), guide=guide)
    torch.testing.assert_close(latent.z, z, rtol=1e-5, atol=1e-5 * float(z.abs().max()))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 40), (101, 33), (1, 7), (700, 9)])
@torch.no_grad()
def test_guide_of_the_latent_is_its_mean_under_each_latent_pixel(size):
    unet = LatentUNet(in_ch=5, ch=3, ch_mult=[1, 2, 1], embed_dim=4)
    guide = torch.rand(1, 2, *size)
    found = exact.latent_guide(unet, guide)
    expected = avg_pool2d(pad_to_multiple(guide, unet.multiple, "reflect"), unet.factor)
    torch.testing.assert_close(found, expected)
    z = exact.encode_tiled(unet, torch.rand(1, 3, *size), None, guide=guide).z
    assert found.shape[-2:] == z.shape[-2:]


@torch.no_grad()
def test_with_an_image_skip_what_is_left_alone_stays_to_the_last_bit():
    unet = LatentUNet(ch=4, ch_mult=[1, 2], embed_dim=4, image_skip=True).eval()
    torch.nn.init.zeros_(unet.final_conv.weight)
    torch.nn.init.zeros_(unet.final_conv.bias)
    image = torch.randint(0, 1 << 16, (1, 3, 45, 70), dtype=torch.int32).to(torch.uint16)
    for dtype in (torch.float32, torch.bfloat16):
        cast = cast_network(unet, torch.device("cpu"), dtype)
        for tile in (None, 32):
            latent = exact.encode_tiled(cast, image, tile)
            assert torch.equal(exact.decode_tiled(cast, image, latent, tile), image)
    torch.nn.init.normal_(unet.final_conv.weight)
    photo = torch.rand(1, 3, 45, 70)
    _, expected = whole(unet, photo)
    latent = exact.encode_tiled(unet, photo, 24)
    result = exact.decode_tiled(unet, photo, latent, 24)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    assert (result - photo).abs().max() > 0.1


@torch.no_grad()
def test_fine_skips_are_kept_for_one_tile_only_and_change_nothing():
    unet, image = unet_of(4), torch.rand(1, 3, 90, 130)
    one, many = (exact.encode_tiled(unet, image, tile) for tile in (None, 64))
    assert (len(one.skips), len(many.skips)) == (9, 2)
    results = [exact.decode_tiled(unet, image, x, t) for x in (one, many) for t in (None, 48)]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_smaller_halo_would_show(monkeypatch):
    unet, image = unet_of(4), torch.rand(1, 3, 200, 200)
    _, expected = whole(unet, image)

    def error(halo):
        monkeypatch.setattr(exact, "halo_of", lambda _: halo)
        latent = exact.encode_tiled(unet, image, 64)
        return float((exact.decode_tiled(unet, image, latent, 64) - expected).abs().max())

    assert error(halo_of(unet)) < 1e-5 < error(Halo(0, 0))


def reach(spread, pixel, cell):
    """Pixels between `pixel` and the farthest cell with a NaN, from the cell's near edge."""
    cells = spread.any(dim=(0, 1, 2)).nonzero().flatten() * cell
    return max(int(cells[-1]) - pixel, pixel + 1 - int(cells[0]) - cell)


@pytest.mark.parametrize("depth", [2, 3, 4])
@torch.no_grad()
def test_halo_is_the_reach_of_a_single_pixel(depth):
    """A NaN spreads exactly as far as the network sees; measured, it is what `halo_of` counts."""
    unet = unet_of(depth).double()
    halo, factor = halo_of(unet), unet.factor
    width = 4 * halo.decode
    image = torch.rand(1, 3, unet.multiple, width, dtype=torch.float64)
    channels = unet.post_latent_conv.out_channels
    coarse = image.new_zeros(1, channels, unet.multiple // factor, width // factor)
    encode, decode = [], []
    for pixel in range(width // 2, width // 2 + factor):  # every phase of the strides
        marked = image.clone()
        marked[..., pixel] = torch.nan
        spread, skips = unet.fine_encode(marked)
        encode.append(reach(spread.isnan(), pixel, factor))
        out = unet.fine_decode(coarse, skips).isnan()
        decode.append(reach(out.unflatten(-1, (-1, factor)).any(-1), pixel, factor))
    assert max(encode) <= halo.encode < max(encode) + factor
    assert max(decode) <= halo.decode < max(decode) + 2 * factor


def test_unknown_module_has_no_margin():
    with pytest.raises(TypeError, match="ConvTranspose2d"):
        margin_before(torch.nn.ConvTranspose2d(1, 1, 2), 0)


@pytest.mark.parametrize("tile", [1, 8, 24, 25, 1000])
@pytest.mark.parametrize("size", [(8, 8), (16, 200), (136, 72)])
def test_regions_cover_every_pixel_once(size, tile):
    seen = torch.zeros(size)
    for region in tile_regions(*size, tile, 8):
        piece = region.cut(seen)
        piece += 1
        assert 0 < max(piece.shape) <= max(8, tile)
        assert region.top % 8 == region.left % 8 == 0
    assert bool((seen == 1).all())


@pytest.mark.parametrize("length", [*range(1, 40), 200])
@pytest.mark.parametrize(("tile", "align"), [(8, 1), (8, 4), (32, 16), (16, 16)])
def test_windows_are_a_partition_of_unity(length, tile, align):
    total = torch.zeros(length)
    windows = blending.tile_windows(length, tile, align)
    for start, weights in windows:
        assert 0 <= start < length
        assert start % align == 0
        assert len(weights) < tile + align
        assert bool((weights > 0).all())
        total[start : start + len(weights)] += weights
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)
    assert windows[-1][0] + len(windows[-1][1]) == length
    for (start, weights), (following, _) in pairwise(windows):
        assert following - start <= len(weights) - min(tile // 4, tile - align)


def test_windows_are_symmetric_where_the_tiles_are():
    windows = [weights for _, weights in blending.tile_windows(56, 32, 8)]
    assert len(windows) == 2
    torch.testing.assert_close(windows[0], windows[1].flip(0), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (33, 40), (64, 64)])
@pytest.mark.parametrize("tile", [3, 8, 20, 100])
def test_blending_pointwise_and_local_networks(size, tile):
    xt, mu = torch.rand(2, 2, 3, *size).unbind()
    result = blending.blend_tiles(lambda x, m: x - 2 * m, xt, mu, tile, 4)
    torch.testing.assert_close(result, xt - 2 * mu, rtol=0, atol=1e-6)


def test_blending_sees_a_photo_that_fits_at_once():
    seen = []
    x = torch.rand(1, 3, 30, 20)
    blending.blend_tiles(lambda x, m: seen.append(x.shape) or x, x, x, 30, 4)
    assert seen == [x.shape]


@pytest.mark.parametrize("tile", [0, -8])
def test_impossible_tile_is_an_error(tile):
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(ConfigError, match="tile"):
        blending.blend_tiles(lambda x, m: x, x, x, tile, 4)
    with pytest.raises(ConfigError, match="tile"):
        tile_regions(8, 8, tile, 8)


def test_out_of_memory_halves_the_tile_and_other_errors_pass():
    tried = []

    def run(tile):
        tried.append(tile)
        if tile > 100:
            raise errors[len(tried) % len(errors)]
        return tile

    errors = [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
        MemoryError("std::bad_alloc"),
    ]
    assert memory.with_smaller_tiles(run, 1024) == 64
    assert tried == [1024, 512, 256, 128, 64]
    with pytest.raises(MemoryError):
        memory.with_smaller_tiles(lambda tile: (_ for _ in ()).throw(MemoryError), 512)
    with pytest.raises(RuntimeError, match="shape"):
        memory.with_smaller_tiles(lambda tile: (_ for _ in ()).throw(RuntimeError("shape")), 512)


@pytest.mark.parametrize("network", [LatentUNet, ConditionalNAFNet, ConditionalUNet])
def test_auto_tile_keeps_the_budget_and_shrinks_with_the_batch(network):
    cpu = torch.device("cpu")
    with torch.device("meta"):
        net = network()
    photo = torch.zeros(1, 3, 8, 8)
    sides = [
        memory.auto_tile(net, torch.float32, photo.expand(batch, -1, -1, -1), cpu)
        for batch in (1, 4, 10**6)
    ]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == 64
    per_pixel = memory.activation_bytes(net, torch.float32)
    assert sides[0] ** 2 * per_pixel <= memory.CPU_BUDGET
    assert memory.activation_bytes(net, torch.bfloat16) * 2 == per_pixel


@pytest.mark.parametrize(("kind", "full"), [(torch.uint8, 255), (torch.uint16, 65535)])
@pytest.mark.parametrize("size", [(1, 1), (9, 70), (65, 33)])
@torch.no_grad()
def test_integers_in_are_the_rounded_floats_out(kind, full, size):
    unet = unet_of(4)
    unet.final_conv.bias.fill_(0.5)
    levels = torch.randint(0, full + 1, (2, 3, *size), generator=torch.Generator().manual_seed(0))
    _, expected = whole(unet, levels / full)
    image = levels.to(kind)
    # As decoders lay them out.
    image = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    result = exact.decode_tiled(unet, image, exact.encode_tiled(unet, image, 24), 40)
    assert result.dtype == kind
    error = result.double() - expected.double().clamp(0, 1) * full
    assert float(error.abs().max()) <= 0.5 + 1e-5 * full


@torch.no_grad()
def test_integers_cannot_hold_what_is_not_finite():
    unet, image = unet_of(2), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    latent = exact.encode_tiled(unet, image, None)
    unet.final_conv.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        exact.decode_tiled(unet, image, latent, None)
    assert exact.decode_tiled(unet, image.float(), latent, None).isnan().all()
