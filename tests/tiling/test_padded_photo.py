"""Parts of a photo that is padded by reflection equal the parts of the padded photo, bit by bit."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from refusion.nets import LatentUNet
from refusion.nets.layers import pad_to_multiple
from refusion.tiling import exact
from refusion.tiling.regions import tile_regions

# Factor 2, 4, 8, and 4 with folded pixels.
UNETS = {
    "2": {"ch_mult": [1, 2]},
    "4": {"ch_mult": [1, 1, 1]},
    "8": {"ch_mult": [1, 1, 1, 1]},
    "folded": {"ch_mult": [1, 1], "pixel_unshuffle": 2},
}
BAND = 3


def unet_of(name):
    return LatentUNet(in_ch=4, out_ch=3, ch=1, embed_dim=1, **UNETS[name])


def guide_at_once(unet, guide):
    return avg_pool2d(pad_to_multiple(guide, unet.multiple, "reflect"), unet.factor)


@pytest.mark.parametrize("name", UNETS)
@torch.no_grad()
def test_guide_in_bands_equals_the_guide_at_once_at_every_size(name, monkeypatch):
    monkeypatch.setattr(exact, "_BAND", BAND)
    unet = unet_of(name)
    draw = torch.Generator().manual_seed(0)
    for length in range(1, 2 * BAND * unet.factor + 10):
        guide = torch.rand(1, 1, length, 3, generator=draw)
        for turned in (guide, guide.transpose(-1, -2)):
            found = exact.latent_guide(unet, turned)
            assert torch.equal(found, guide_at_once(unet, turned)), tuple(turned.shape)


@pytest.mark.parametrize(
    ("name", "rows"), [("8", 513), ("8", 1025), ("4", 257), ("4", 513), ("8", 1026), ("8", 512)]
)
@torch.no_grad()
def test_the_last_rows_of_a_guide_keep_their_order(name, rows):
    """Here the last band contains exactly the photo rows that the padding reflects."""
    unet, guide = unet_of(name), torch.linspace(0, 1, rows).view(1, 1, rows, 1)
    assert torch.equal(exact.latent_guide(unet, guide), guide_at_once(unet, guide))


@pytest.mark.parametrize("name", UNETS)
def test_every_crop_equals_the_part_of_the_padded_photo(name):
    unet = unet_of(name)
    image = torch.rand(1, 4, 67, 1)
    for length in range(1, 67):
        photo = exact._PaddedPhoto(unet, image[..., :length, :])
        whole = pad_to_multiple(image[..., :length, :], unet.multiple, "reflect")
        assert photo.size == whole.shape[-2:]
        for tile in (1, 2 * unet.factor, 40):
            for region in tile_regions(*photo.size, tile, unet.factor):
                for halo in (0, unet.factor):
                    part = region.grown(halo, *photo.size)
                    assert torch.equal(photo.crop(part), part.cut(whole))


@pytest.mark.parametrize("name", UNETS)
@torch.no_grad()
def test_tiles_equal_the_whole_at_every_size(name):
    torch.manual_seed(0)
    unet = unet_of(name).eval()
    image, guide = torch.rand(1, 3, 45, 45), torch.rand(1, 1, 45, 45)
    for length in range(1, 46):
        for part in ((slice(length), slice(9)), (slice(9), slice(length))):
            lq, condition = (each[(..., *part)] for each in (image, guide))
            latent = unet.encode(torch.cat([lq, condition], dim=1))
            expected = unet.decode(latent.z, latent.skips, latent.size)
            tiled = exact.encode_tiled(unet, lq, 8, guide=condition)
            result = exact.decode_tiled(unet, lq, tiled, 16, guide=condition)
            torch.testing.assert_close(tiled.z, latent.z, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
