"""Blur by a lens (Gaussian) or by a camera that moved during the exposure.

Kernels sum to 1 and have their centroid in the middle, so that light is kept and the blurred image
lies on the sharp one. Camera shake is the random path of Boracchi and Foi (2012) in the form of
Kupyn et al. (2018): a point with inertia, pushed by a trembling hand, pulled back, jerked at times.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import uniform
from refusion.synthesis.camera import add_noise, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.scenes.frame import PhotoFrame

GAMMA = 2.2
PATH_STEPS = 96
SPLAT_STEP = 0.2  # pixels between points of a rasterised path, a fifth of the grid they fall on


@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a round or an elliptic Gaussian.

    Pairs are (low, high) of a uniform draw, shares are probabilities.

    Attributes:
        sigma: standard deviation along the longer axis, in pixels.
        anisotropy: longer axis over shorter axis.
        linear_share: part of the samples blurred in linear light, as a lens does it.
        noise: standard deviation of the noise at full light.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
    """

    sigma: tuple[float, float] = (0.5, 4.0)
    anisotropy: tuple[float, float] = (1.0, 2.0)
    linear_share: float = 0.5
    noise: tuple[float, float] = (0.0, 0.01)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, {"sigma": (0.01, 100.0), "anisotropy": (1.0, 20.0)})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the blurred image (3, H, W), 8-bit levels."""
        kernel = self.draw_kernel(generator)
        return {"lq": _blur(clean, kernel, generator, self.linear_share, self.noise)}

    def draw_kernel(self, generator: Generator) -> Tensor:
        """Kernel (k, k), k odd, of a random turn; sums to 1."""
        sigma, ratio = uniform(generator, *self.sigma), uniform(generator, *self.anisotropy)
        angle = uniform(generator, 0, math.pi)
        reach = math.ceil(3.5 * sigma)
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
        along = offsets * math.cos(angle) + offsets[:, None] * math.sin(angle)
        across = offsets[:, None] * math.cos(angle) - offsets * math.sin(angle)
        kernel = torch.exp(-0.5 * (along**2 + (across * ratio) ** 2) / sigma**2)
        return (kernel / kernel.sum()).float()


@dataclass(frozen=True)
class MotionBlur:
    """Blur by a shaking hand, or by a straight pan.

    Pairs are (low, high) of a uniform draw, shares are probabilities.

    Attributes:
        size: length of the path in pixels; its kernel is at most two pixels wider.
        straight_share: part of the samples with a straight path of even speed.
        shake: how much the hand trembles: standard deviation of the path's turning in radians.
        pull: force back to the start, relative to what bends the path by 1 radian.
        jerk: expected number of sudden turns back during the exposure.
        linear_share: part of the samples blurred in linear light, as a sensor adds it up.
        noise: standard deviation of the noise at full light.

    Raises:
        ConfigError: a setting is out of its domain or a range is reversed.
    """

    size: tuple[float, float] = (3.0, 35.0)
    straight_share: float = 0.2
    shake: tuple[float, float] = (0.3, 4.0)
    pull: tuple[float, float] = (0.0, 4.0)
    jerk: tuple[float, float] = (0.0, 1.5)
    linear_share: float = 0.5
    noise: tuple[float, float] = (0.0, 0.01)

    def __post_init__(self) -> None:
        """Check every setting."""
        wide = (0.0, 50.0)
        check_settings(self, {"size": (0.1, 500.0), "shake": wide, "pull": wide, "jerk": wide})

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the blurred image (3, H, W), 8-bit levels."""
        kernel = self.draw_kernel(generator)
        return {"lq": _blur(clean, kernel, generator, self.linear_share, self.noise)}

    def draw_kernel(self, generator: Generator) -> Tensor:
        """Kernel (k, k), k odd, of a random path; sums to 1, its centroid is the middle."""
        size, turn = uniform(generator, *self.size), uniform(generator, 0, 2 * math.pi)
        shake, pull = uniform(generator, *self.shake), uniform(generator, *self.pull)
        jerk = uniform(generator, *self.jerk)
        trembling = torch.randn(PATH_STEPS, 2, generator=generator)
        chances = torch.rand(PATH_STEPS, 2, generator=generator)
        if uniform(generator, 0, 1) < self.straight_share:
            shake = pull = jerk = 0.0
        jerks = [(a < jerk / PATH_STEPS, math.pi + b - 0.5) for a, b in chances.tolist()]
        shoves = [shake / math.sqrt(PATH_STEPS) * complex(*xy) for xy in trembling.tolist()]
        path = _walk(cmath.exp(1j * turn), shoves, jerks, pull)
        return _rasterise(torch.tensor(path, dtype=torch.complex128) * size)


def _walk(
    velocity: complex, shoves: list[complex], jerks: list[tuple[bool, float]], pull: float
) -> list[complex]:
    """Path of length 1, at constant speed, starting at 0."""
    step, path = 1 / len(shoves), [0j]
    for shove, (is_jerked, angle) in zip(shoves, jerks, strict=True):
        velocity += shove - pull * step * path[-1]
        if is_jerked:
            velocity += 2 * velocity * cmath.exp(1j * angle)
        velocity /= abs(velocity)
        path.append(path[-1] + velocity * step)
    return path


def _rasterise(path: Tensor) -> Tensor:
    """Kernel (k, k) of a path (n,) in pixels, real part right and imaginary part down.

    Bilinear weights keep the sum and the centroid of the points exactly.
    """
    length = float(path.diff().abs().sum())
    repeats = max(2, math.ceil(length / (len(path) - 1) / SPLAT_STEP))
    parts = ((torch.arange(repeats) + 0.5) / repeats)[:, None]
    points = (path[:-1] + parts * path.diff()).flatten()
    points = torch.view_as_real(points - points.mean())
    reach = max(1, math.ceil(float(points.abs().amax())))
    side = 2 * reach + 1
    corner = points.floor()
    x, y = (points - corner).unbind(-1)
    column, row = (corner.long() + reach).unbind(-1)
    kernel = torch.zeros(side * side, dtype=torch.float64)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (y if down else 1 - y) * (x if right else 1 - x)
        # A point on the last row or column has nothing beyond it, and no weight there.
        index = (row + down).clamp(max=side - 1) * side + (column + right).clamp(max=side - 1)
        kernel.index_add_(0, index, weight)
    return (kernel / len(points)).view(side, side).float()


def _blur(
    clean: Tensor,
    kernel: Tensor,
    generator: Generator,
    linear_share: float,
    noise: tuple[float, float],
) -> Tensor:
    is_linear = uniform(generator, 0, 1) < linear_share
    light = clean.pow(GAMMA) if is_linear else clean
    blurred = convolve(light, kernel).clamp(0, 1)
    blurred = blurred.pow(1 / GAMMA) if is_linear else blurred
    level = uniform(generator, *noise)
    return quantise(add_noise(blurred, generator, read=level / 3, shot=level))


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolution with mirrored borders, the edge pixels not repeated.

    Args:
        image: (C, H, W) float, of any size: borders wider than the image mirror again.
        kernel: (k, l), both odd, middle at zero shift.

    Returns:
        (C, H, W), by the Fourier transform, exact to about 1e-6.
    """
    reach = [side // 2 for side in kernel.shape]
    height, width = image.shape[-2:]
    rows, columns = _mirror(height, reach[0]), _mirror(width, reach[1])
    padded = image[:, rows][:, :, columns]
    # Wrapped around, the kernel soils `reach` pixels at each border, and those are cut off.
    size = [math.ceil(side / 32) * 32 for side in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, size) * torch.fft.rfft2(kernel, size)
    full = torch.fft.irfft2(spectrum, size)
    top, left = 2 * reach[0], 2 * reach[1]
    return full[:, top : top + height, left : left + width].contiguous()


def _mirror(count: int, margin: int) -> Tensor:
    """Indices -margin..count+margin-1 folded into 0..count-1."""
    period = max(2 * (count - 1), 1)
    index = torch.arange(-margin, count + margin) % period
    return torch.where(index < count, index, period - index)
