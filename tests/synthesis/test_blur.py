"""Laws of the blur kernels and of the convolution."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from degradation_cases import colours, generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.blur import GaussianBlur, MotionBlur, convolve
from refusion.synthesis.scenes.frame import PhotoFrame

QUIET = (0.0, 0.0)
RECORDED = (21, 0.031817, 0.0205256)
BLURS = [GaussianBlur(noise=QUIET), MotionBlur(noise=QUIET)]


def blurred(blur: GaussianBlur | MotionBlur, clean: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return blur(clean, generator(seed), PhotoFrame.whole(clean))["lq"]


def moments(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centroid (2,) from the middle and covariance (2, 2), rows then columns."""
    offsets = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    places = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij")).flatten(1)
    weights = kernel.double().flatten()
    return places @ weights, (places * weights) @ places.T


@pytest.mark.parametrize("blur", BLURS, ids=lambda b: type(b).__name__)
def test_kernels_keep_the_light_and_the_place(blur: GaussianBlur | MotionBlur) -> None:
    for seed in range(40):
        kernel = blur.draw_kernel(generator(seed))
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert (kernel >= 0).all()
        assert float(kernel.double().sum()) == pytest.approx(1, abs=1e-6)
        assert moments(kernel)[0].abs().max() < 1e-5
        assert 0 < (kernel**2).sum() <= 1.0001


@pytest.mark.parametrize(("sigma", "ratio"), [(1.5, 1.0), (3.0, 2.0), (6.0, 3.0)])
def test_gaussian_has_its_axes(sigma: float, ratio: float) -> None:
    blur = GaussianBlur(sigma=(sigma, sigma), anisotropy=(ratio, ratio))
    for seed in range(4):
        axes = torch.linalg.eigvalsh(moments(blur.draw_kernel(generator(seed)))[1]).sqrt()
        assert axes.tolist() == pytest.approx([sigma / ratio, sigma], rel=0.01)


@pytest.mark.parametrize("size", [5.0, 20.0, 41.0])
def test_straight_path_is_a_line_of_its_length(size: float) -> None:
    """A line of length L has variance L^2 / 12 along it; bilinear weights add at most 1/4."""
    blur = MotionBlur(size=(size, size), straight_share=1.0)
    turns = set()
    for seed in range(5):
        kernel = blur.draw_kernel(generator(seed))
        values, axes = torch.linalg.eigh(moments(kernel)[1])
        assert size**2 / 12 - 1e-3 <= values[1] <= size**2 / 12 + 0.26
        assert values[0] < 0.26
        turns.add(round(float(axes[0, 1].abs()), 2))
    assert len(turns) > 2


def test_shaken_paths_bend_and_stay_within_their_length() -> None:
    blur = MotionBlur(size=(30.0, 30.0), straight_share=0.0)
    bends = []
    for seed in range(20):
        kernel = blur.draw_kernel(generator(seed))
        values = torch.linalg.eigvalsh(moments(kernel)[1])
        assert values[1] <= 30**2 / 12 + 0.26
        assert kernel.shape[0] <= 2 * 30 + 3
        assert (kernel > 0).sum() < 4 * 30 + 12  # a path, not a patch
        bends.append(float(values[0]))
    assert max(bends) > 2.0


def test_smooth_paths_turn_little_from_step_to_step() -> None:
    """Less shake, straighter: the kernel's reach grows to that of the straight line."""
    reaches = []
    for shake in (4.0, 1.0, 0.0):
        blur = MotionBlur(
            size=(30.0, 30.0), straight_share=0.0, shake=(shake, shake), pull=QUIET, jerk=QUIET
        )
        kernels = [blur.draw_kernel(generator(seed)) for seed in range(12)]
        reaches.append(sum(float(moments(k)[1].trace()) for k in kernels) / 12)
    assert reaches == sorted(reaches)
    assert reaches[2] == pytest.approx(75.0, abs=0.5)


@pytest.mark.parametrize("shape", [(60, 80), (33, 31)])
def test_convolution_agrees_with_the_direct_sum(shape: tuple[int, int]) -> None:
    image, kernel = torch.rand(3, *shape, generator=generator()), torch.rand(9, 13)
    kernel /= kernel.sum()
    padded = F.pad(image[None], (6, 6, 4, 4), mode="reflect")
    weight = kernel.flip(0, 1).expand(3, 1, 9, 13)
    expected = F.conv2d(padded, weight, groups=3)[0]
    torch.testing.assert_close(convolve(image, kernel), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 3), (64, 64)])
def test_constant_images_stay_and_any_size_works(shape: tuple[int, int]) -> None:
    kernel = MotionBlur(size=(40.0, 40.0)).draw_kernel(generator(1))
    image = torch.full((3, *shape), 0.37)
    torch.testing.assert_close(convolve(image, kernel), image, atol=2e-6, rtol=0)
    for blur in BLURS:
        assert (blurred(blur, image) - quantise(image)).abs().max() < 1e-6


def test_point_becomes_the_kernel() -> None:
    kernel = MotionBlur(size=(12.0, 12.0)).draw_kernel(generator(2))
    reach = kernel.shape[0] // 2
    image = torch.zeros(1, 61, 61)
    image[0, 30, 30] = 1
    seen = convolve(image, kernel)[0, 30 - reach : 31 + reach, 30 - reach : 31 + reach]
    torch.testing.assert_close(seen, kernel, atol=1e-6, rtol=0)


@pytest.mark.parametrize("blur", BLURS, ids=lambda b: type(b).__name__)
def test_blur_is_the_convolution_with_its_kernel(blur: GaussianBlur | MotionBlur) -> None:
    clean = colours(60, 80)
    kernel = blur.draw_kernel(generator(3))
    seen = blurred(replace(blur, linear_share=0.0), clean, 3)
    torch.testing.assert_close(seen, convolve(clean, kernel), atol=0.51 / 255, rtol=0)
    light = convolve(clean**2.2, kernel).clamp(0, 1) ** (1 / 2.2)
    seen = blurred(replace(blur, linear_share=1.0), clean, 3)
    torch.testing.assert_close(seen, light, atol=0.51 / 255, rtol=0)


def test_noise_has_its_deviation() -> None:
    noisy = GaussianBlur(noise=(0.02, 0.02))
    error = blurred(noisy, torch.full((3, 128, 128), 0.5)) - 0.5
    expected = (0.02**2 / 9 + 0.02**2 * 0.5) ** 0.5
    assert float(error.std()) == pytest.approx(expected, rel=0.05)


def test_recorded_numbers() -> None:
    kernel = MotionBlur().draw_kernel(generator(4))
    assert kernel.shape == (RECORDED[0], RECORDED[0])
    assert float((kernel**2).sum()) == pytest.approx(RECORDED[1], abs=1e-5)
    kernel = GaussianBlur().draw_kernel(generator(4))
    assert float((kernel**2).sum()) == pytest.approx(RECORDED[2], abs=1e-6)


@pytest.mark.parametrize("kind", [GaussianBlur, MotionBlur])
def test_same_generator_same_blur_and_others_differ(kind: type) -> None:
    first, again = (blurred(kind(), colours(60, 80), 5) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, blurred(kind(), colours(60, 80), 6))
    assert ((first * 255).round() - first * 255).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (GaussianBlur, {"sigma": (0.0, 2.0)}, "sigma"),
        (GaussianBlur, {"anisotropy": (0.5, 2.0)}, "anisotropy"),
        (MotionBlur, {"size": (9.0, 3.0)}, "size"),
        (MotionBlur, {"straight_share": 2.0}, "straight_share"),
        (MotionBlur, {"noise": (-0.1, 0.0)}, "noise"),
    ],
)
def test_settings_out_of_range(kind: type, options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__}.{word}"):
        kind(**options)
