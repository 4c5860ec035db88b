"""The perceptual distances and the ways to more detail that `benchmarks.detail` compares."""

import copy

import pytest
import torch

from benchmarks import detail
from benchmarks.features import EfficientNetLite0, feature_distance, texture_distance
from refusion.randomness import keyed_generator

LEVEL, SIDE = 20, 48


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EfficientNetLite0().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def photo():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


class HalfWay:
    """A denoiser that goes half of the way to gray, and to gray with a sampler."""

    def restore(self, lq, *, conditions, sampler, steps):
        assert conditions.noise_std == pytest.approx(LEVEL / 255)
        return torch.lerp(lq, torch.full_like(lq, 0.5), 0.5 if sampler is None else 1.0)


def test_maps_have_the_published_sides_and_channels(network, photo):
    shapes = [tuple(one.shape[1:]) for one in network(photo[..., :33])]
    assert shapes == [
        (32, 24, 17), (16, 24, 17), (24, 12, 9), (40, 6, 5), (112, 3, 3), (320, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("side", "first"), [(32, 1), (33, 0)])
def test_padding_is_that_of_tensorflow(network, side, first):
    """An even side is padded at its end only: the middles of the kernels lie on 1, 3, ..."""
    stem = copy.deepcopy(network._conv_stem)
    stem.weight.zero_()
    stem.weight[0, 0, 1, 1] = 1
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(stem(image)[0, 0], image[0, 0, first::2, first::2])


def test_only_blocks_that_keep_sides_and_channels_add_their_input(network):
    adding = [number for number, block in enumerate(network._blocks) if block.adds]
    assert adding == [2, 4, 6, 7, 9, 10, 12, 13, 14]
    block = copy.deepcopy(network._blocks[2])
    block._bn2.weight.zero_()
    x = torch.rand(1, 24, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(block(x), x)


def test_distances_are_those_of_their_formulas(photo):
    def maps(image):  # one map: the image itself
        return [image]

    turned = photo.flip(1)
    unit, other = (one / one.norm(dim=1, keepdim=True) for one in (photo, turned))
    expected = (2 - 2 * (unit * other).sum(dim=1)).mean()
    assert feature_distance(maps, photo, turned) == pytest.approx(float(expected), rel=1e-5)
    assert feature_distance(maps, 0.3 * photo, photo) == pytest.approx(0, abs=1e-6)
    # a tenth of the contrast: l = 1 and s = 2 / (10 + 1 / 10), in the image and the map
    mean = photo.mean(dim=(2, 3), keepdim=True)
    flat = torch.lerp(mean, photo, 0.1)
    assert texture_distance(maps, flat, photo) == pytest.approx(0.5 - 1 / 10.1, abs=1e-3)


@pytest.mark.parametrize("distance", [feature_distance, texture_distance])
def test_equal_images_have_no_distance_and_blurred_ones_have(network, photo, distance):
    assert distance(network, photo, photo) == pytest.approx(0, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(photo, 3, 1, 1)
    assert distance(network, blurred, photo) > 10 * distance(network, photo + 0.01, photo) > 0


def test_ways_lie_between_the_mean_and_the_other_photo(photo):
    ways = dict(detail.noisy_ways(HalfWay(), photo, LEVEL, 3))
    noise = torch.randn(photo.shape, generator=keyed_generator(3, LEVEL))
    lq = photo + LEVEL / 255 * noise
    mean = lq / 2 + 0.25
    torch.testing.assert_close(ways["mean"], mean)
    torch.testing.assert_close(ways["control: 0.1 of the noise"], mean + 0.1 * (lq - mean))
    torch.testing.assert_close(ways[f"{detail.DENOISE[0]} calls, 0.5"], mean / 2 + 0.25)
    assert all((ways[f"{how} calls, 1"] == 0.5).all() for how in detail.DENOISE)


def test_walks_start_at_the_mean_plus_noise(photo):
    class Same:
        def restore(self, lq, *, conditions, sampler, steps):
            return lq

    ways = dict(detail.blind_ways(Same(), photo, 3))
    noise = torch.randn(photo.shape, generator=keyed_generator(3, 0))
    for level in detail.LEVELS:
        found = ways[f"noise of {level}, {detail.BLIND[0]} calls, 1"]
        torch.testing.assert_close(found, photo + level / 255 * noise)
    torch.testing.assert_close(ways["control: grain of 2 levels"], photo + 2 / 255 * noise)


def test_the_table_states_the_mean_and_the_differences_to_it():
    ways = {"mean": [31.5, 0.3037, 0.1682], "control": [31.37, 0.2957, 0.1466]}
    assert detail.table({"25 levels": ways}) == (
        "| PSNR, features, texture | 25 levels |\n|---|---|\n"
        "| mean | 31.50, 0.304, 0.168 |\n| control | 31.37, -3 %, -13 % |\n"
    )
