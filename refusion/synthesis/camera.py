"""Effects of a camera on an image: exposure, sensor noise, 8-bit rounding, JPEG."""

from __future__ import annotations

import functools
import io
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from refusion.randomness import bernoulli, randint, uniform
from refusion.synthesis.draws import normal

GAMMA = 2.2  # light = display value ** GAMMA


def power(light: Tensor, exponent: float) -> Tensor:
    """light ** exponent as exp(exponent log(light)), in a quarter of the time of `torch.pow`.

    Args:
        light: values >= 0.
        exponent: greater than 0; 1 returns `light` itself.

    Returns:
        The shape of `light`; the relative error is at most 1e-6 |exponent log(light)| + 1e-6.
    """
    return light if exponent == 1 else light.log().mul_(exponent).exp_()


def power_(light: Tensor, exponent: float) -> Tensor:
    """As `power`, in place: new memory takes longer than the arithmetic."""
    return light if exponent == 1 else light.log_().mul_(exponent).exp_()


def expose(image: Tensor, generator: Generator, *, exposure: float, colour: float) -> Tensor:
    """Apply a small random change of gain, gamma and white balance.

    Args:
        image: (3, H, W) in [0, 1].
        generator: source of randomness.
        exposure: largest relative change of gain and of gamma.
        colour: largest relative change of one channel.

    Returns:
        (3, H, W) in [0, 1].
    """
    gain = 1 + uniform(generator, -exposure, exposure)
    gamma = 1 + uniform(generator, -exposure, exposure)
    balance = 1 + colour * (2 * torch.rand(3, 1, 1, generator=generator) - 1)
    return power_(image.clamp_min(1e-6), gamma).mul_(gain * balance).clamp_(0, 1)


def add_noise(image: Tensor, generator: Generator, *, read: float, shot: float) -> Tensor:
    """Add Gaussian noise of variance read^2 + shot^2 * image.

    This is the sensor model of Foi et al. (2008).

    Args:
        image: (C, H, W) in [0, 1].
        generator: source of randomness.
        read: standard deviation of the read noise, in units of full scale.
        shot: standard deviation of the shot noise at value 1.

    Returns:
        (C, H, W) in [0, 1].
    """
    deviation = (shot**2 * image).add_(read**2).sqrt_()
    noise = normal(image.shape, generator)
    return noise.mul_(deviation).add_(image).clamp_(0, 1)


def quantise(image: Tensor, quality: int | None = None) -> Tensor:
    """Round to 8-bit levels; if a quality is given, also compress as JPEG and decode.

    Args:
        image: (3, H, W) float in [0, 1].
        quality: JPEG quality 1..100, or None for rounding only.

    Returns:
        (3, H, W) float32, multiples of 1/255.
    """
    levels = image.clamp(0, 1).mul_(255).round_()
    if quality is None:
        return levels.div_(255)
    pixels = np.empty((*levels.shape[1:], 3), np.uint8)
    for channel, plane in enumerate(levels.numpy()):
        np.copyto(pixels[..., channel], plane, casting="unsafe")
    levels.copy_(torch.from_numpy(_jpeg_round_trip(pixels, quality)).permute(2, 0, 1))
    return levels.div_(255)


def _jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Compress (H, W, 3) uint8 as JPEG with 4:2:0 chroma, and decode it.

    Pillow and imagecodecs use the same library with the same settings, so the pixels are equal;
    imagecodecs takes half of the time.
    """
    if (codecs := _imagecodecs()) is not None:
        data = codecs.jpeg8_encode(pixels, level=quality, subsampling="420")
        return codecs.jpeg8_decode(data)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return np.array(decoded)


@functools.cache
def _imagecodecs() -> ModuleType | None:
    """The package imagecodecs, or None: everything but compressed TIFF files works without it."""
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def file_round_trip(
    image: Tensor, generator: Generator, share: float, quality: tuple[int, int]
) -> Tensor:
    """Round to 8-bit levels, with random JPEG compression.

    Args:
        image: (3, H, W) in [0, 1].
        generator: source of randomness; always two draws.
        share: probability of the JPEG.
        quality: lowest and highest JPEG quality, 1..100.

    Returns:
        (3, H, W) float32, multiples of 1/255.
    """
    drawn = randint(generator, *quality)
    return quantise(image, drawn if bernoulli(generator, share) else None)
