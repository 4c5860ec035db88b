"""LatentUNet: stateless coding, the split into a fine and a coarse part."""

import pytest
import torch
from net_cases import CASES

from refusion.nets import LatentUNet

CASE = CASES["latent_unet"]


@pytest.fixture
def net():
    return CASE.build()


@pytest.fixture
def image():
    return CASE.inputs(2, 21, 35)["x"]


def test_size_of_the_latent(net, image):
    latent = net.encode(image)
    assert (net.factor, net.multiple, net.embed_dim) == (4, 8, 3)
    # 21 x 35 is padded to 24 x 40.
    assert latent.z.shape == (2, 3, 6, 10)
    assert latent.size == (21, 35)
    assert len(latent.skips) == 1 + 2 * 3
    assert [skip.shape[-1] for skip in latent.skips] == [40, 40, 40, 20, 20, 10, 10]


def test_published_factor():
    with torch.device("meta"):
        assert LatentUNet().factor == 8


@torch.no_grad()
def test_interleaved_images_do_not_mix(net, image):
    other = CASE.inputs(1, 40, 9, seed=1)["x"]
    alone = [CASE.run(net, {"x": x}) for x in (image, other)]
    first, second = net.encode(image), net.encode(other)
    assert torch.equal(net.decode(first.z, first.skips, first.size), alone[0])
    assert torch.equal(net.decode(second.z, second.skips, second.size), alone[1])


@torch.no_grad()
def test_decoding_leaves_latent_and_skips_alone(net, image):
    latent = net.encode(image)
    once = net.decode(latent.z, latent.skips, latent.size)
    assert torch.equal(net.decode(latent.z, list(latent.skips), latent.size), once)


@torch.no_grad()
def test_latent_and_every_skip_matter(net, image):
    latent = net.encode(image)
    output = net.decode(latent.z, latent.skips, latent.size)
    assert not torch.allclose(net.decode(-latent.z, latent.skips, latent.size), output)
    for i, skip in enumerate(latent.skips):
        skips = [*latent.skips[:i], -skip, *latent.skips[i + 1 :]]
        assert not torch.allclose(net.decode(latent.z, skips, latent.size), output), i


@torch.no_grad()
def test_fine_and_coarse_parts_compose(net):
    image = CASE.inputs(1, 24, 40)["x"]  # needs no padding
    latent = net.encode(image)
    features, fine = net.fine_encode(image)
    z, coarse = net.coarse_encode(features)
    assert torch.equal(z, latent.z)
    assert all(torch.equal(a, b) for a, b in zip((*fine, *coarse), latent.skips, strict=True))
    decoded = net.fine_decode(net.coarse_decode(z, coarse), fine)
    assert torch.equal(decoded, net.decode(latent.z, latent.skips, latent.size))


@torch.no_grad()
def test_fine_part_is_local(net):
    """A tile with a margin of 24 pixels gives the features of the whole image: no attention."""
    image = CASE.inputs(1, 96, 96)["x"]
    top, left, size, margin = 16, 24, 64, 24
    tile = image[..., top : top + size, left : left + size]

    def inner(x, offset_y, offset_x, scale):
        y, x0, n = (v // scale for v in (offset_y + margin, offset_x + margin, size - 2 * margin))
        return x[..., y : y + n, x0 : x0 + n]

    whole, part = net.fine_encode(image), net.fine_encode(tile)
    for a, b in zip((whole[0], *whole[1]), (part[0], *part[1]), strict=True):
        scale = image.shape[-1] // a.shape[-1]
        expected = inner(a, top, left, scale)
        torch.testing.assert_close(inner(b, 0, 0, scale), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_coarse_part_sees_the_whole_map(net):
    features = torch.randn(1, 8, 16, 16)
    z = net.coarse_encode(features)[0]
    features[..., 0, 0] += 5
    assert (net.coarse_encode(features)[0] - z)[..., -1, -1].abs().max() > 0


@pytest.mark.parametrize("settings", [{}, {"ch_mult": (2, 4, 8), "ch": 16, "pixel_unshuffle": 2}])
@pytest.mark.parametrize("image_skip", [False, True])
@torch.no_grad()
def test_untrained_it_already_decodes_from_its_latent(settings, image_skip):
    """Signals neither vanish nor explode on the way through all levels and back."""
    torch.manual_seed(0)
    unet = LatentUNet(**settings, image_skip=image_skip)
    image = torch.rand(2, 3, 64, 64)
    latent = unet.encode(image)
    assert 0.2 < latent.z.std() < 5
    assert all(0.1 < skip.std() < 5 for skip in latent.skips)
    other = latent.z + latent.z.std() * torch.randn_like(latent.z)
    images = [unet.decode(z, latent.skips, latent.size) for z in (latent.z, other)]
    assert images[0].std() < 5
    assert (images[1] - images[0]).std() > (0.005 if image_skip else 0.05)
