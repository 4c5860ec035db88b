"""Gaussian blur of a lens, and motion blur of a camera that moves during the exposure.

Kernels sum to 1 and have their centroid at the centre, so that brightness is preserved and the
blurred image is aligned with the sharp one. Camera shake follows the random path of Boracchi and
Foi (2012) as in Kupyn et al. (2018): a point with inertia gets random impulses, a force towards the
start, and occasional sudden reversals.
"""

from __future__ import annotations

import cmath
import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from refusion.randomness import uniform
from refusion.synthesis.camera import GAMMA, add_noise, power, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.scenes.frame import PhotoFrame

PATH_STEPS = 96
SPLAT_STEP = 0.2  # distance of the points of a rasterised path in pixels


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur with a circular or elliptical kernel.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        sigma: standard deviation along the longer axis in pixels.
        anisotropy: ratio of the longer to the shorter axis, >= 1.
        linear_share: share of the samples blurred in linear light, as by a real lens.
        noise: standard deviation of the noise at value 1.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
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
        return self.apply(clean, self.draw_kernel(generator), generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> Tensor:
        """Draw the kernel of a photo, see `SceneDegradation`."""
        return self.draw_kernel(generator)

    def apply(
        self, clean: Tensor, scene: Tensor, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """{"lq"}: a crop (3, H, W) blurred by the kernel of its photo, with noise of its own."""
        return {"lq": _blur(clean, scene, generator, self.linear_share, self.noise)}

    def draw_kernel(self, generator: Generator) -> Tensor:
        """Random kernel (k, k), k odd, that sums to 1."""
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
    """Motion blur of camera shake, or of a straight movement.

    A pair (low, high) is the range of a uniform draw; a share is a probability.

    Attributes:
        size: length of the path in pixels; the kernel is at most two pixels wider.
        straight_share: share of the samples with a straight path at constant speed.
        shake: standard deviation of the change of direction along the path, in radians.
        pull: force towards the start; 1 is the force that bends the path by 1 radian.
        jerk: expected number of sudden reversals during the exposure.
        linear_share: share of the samples blurred in linear light, as by a real sensor.
        noise: standard deviation of the noise at value 1.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
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
        return self.apply(clean, self.draw_kernel(generator), generator, frame)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> Tensor:
        """Draw the kernel of a photo, see `SceneDegradation`."""
        return self.draw_kernel(generator)

    def apply(
        self, clean: Tensor, scene: Tensor, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """{"lq"}: a crop (3, H, W) blurred by the kernel of its photo, with noise of its own."""
        return {"lq": _blur(clean, scene, generator, self.linear_share, self.noise)}

    def draw_kernel(self, generator: Generator) -> Tensor:
        """Kernel (k, k), k odd, of a random path; its sum is 1 and its centroid is the centre."""
        size, angle = uniform(generator, *self.size), uniform(generator, 0, 2 * math.pi)
        shake, pull = uniform(generator, *self.shake), uniform(generator, *self.pull)
        jerk = uniform(generator, *self.jerk)
        directions = torch.randn(PATH_STEPS, 2, generator=generator)
        draws = torch.rand(PATH_STEPS, 2, generator=generator)
        if uniform(generator, 0, 1) < self.straight_share:
            shake = pull = jerk = 0.0
        reversals = [(a < jerk / PATH_STEPS, math.pi + b - 0.5) for a, b in draws.tolist()]
        impulses = [shake / math.sqrt(PATH_STEPS) * complex(*xy) for xy in directions.tolist()]
        path = _camera_path(cmath.exp(1j * angle), impulses, reversals, pull)
        return _rasterise(torch.tensor(path, dtype=torch.complex128) * size)


def _camera_path(
    velocity: complex, impulses: list[complex], reversals: list[tuple[bool, float]], pull: float
) -> list[complex]:
    """Camera path of length 1 at constant speed, as complex positions starting at 0."""
    step, path = 1 / len(impulses), [0j]
    for impulse, (is_reversed, angle) in zip(impulses, reversals, strict=True):
        velocity += impulse - pull * step * path[-1]
        if is_reversed:
            velocity += 2 * velocity * cmath.exp(1j * angle)
        velocity /= abs(velocity)
        path.append(path[-1] + velocity * step)
    return path


def _rasterise(path: Tensor) -> Tensor:
    """Convert a path to a kernel (k, k) with bilinear weights, which preserve sum and centroid.

    Args:
        path: (n,) complex positions in pixels; the real part is right, the imaginary part down.
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
        # For a point on the last row or column, the weight beyond the border is 0.
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
    light = power(clean, GAMMA) if is_linear else clean
    blurred = convolve(light, kernel).clamp_(0, 1)
    blurred = power(blurred, 1 / GAMMA) if is_linear else blurred
    level = uniform(generator, *noise)
    return quantise(add_noise(blurred, generator, read=level / 3, shot=level))


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve an image with a kernel, with reflected borders (edge pixels are not repeated).

    Args:
        image: (C, H, W) float; the image may be smaller than the kernel.
        kernel: (k, l), both odd; its centre corresponds to no shift.

    Returns:
        (C, H, W), computed by the Fourier transform with an error of about 1e-6.
    """
    reach = [side // 2 for side in kernel.shape]
    height, width = image.shape[-2:]
    # Circular convolution makes `reach` pixels at each border invalid; they are cropped.
    size = [fourier_side(image.shape[axis - 2] + 2 * reach[axis]) for axis in (0, 1)]
    padded = _reflected(image, reach, size)
    spectrum = torch.fft.rfft2(kernel, size)
    result = torch.empty_like(image)
    for plane, target in zip(padded, result, strict=True):  # one by one for the processor cache
        full = torch.fft.irfft2(torch.fft.rfft2(plane).mul_(spectrum), size)
        top, left = 2 * reach[0], 2 * reach[1]
        target.copy_(full[top : top + height, left : left + width])
    return result


@functools.cache
def fourier_side(least: int) -> int:
    """Smallest multiple of 16, at least `least`, without prime factors above 7: fast transforms."""
    side = 16 * math.ceil(least / 16)
    rest = side
    for factor in (2, 3, 5, 7):
        while rest % factor == 0:
            rest //= factor
    return side if rest == 1 else fourier_side(side + 1)


def _reflected(image: Tensor, reach: list[int], size: list[int]) -> Tensor:
    """Extend (C, H, W) to (C, *size) by reflection, `reach` pixels of it at the top and left."""
    ends = [size[axis] - reach[axis] - image.shape[axis - 2] for axis in (0, 1)]
    if all(max(reach[axis], ends[axis]) < image.shape[axis - 2] for axis in (0, 1)):
        return F.pad(image[None], (reach[1], ends[1], reach[0], ends[0]), mode="reflect")[0]
    rows, columns = (_mirror(image.shape[axis - 2], reach[axis], ends[axis]) for axis in (0, 1))
    return image[:, rows][:, :, columns]


def _mirror(count: int, before: int, after: int) -> Tensor:
    """Indices -before..count+after-1, reflected into 0..count-1."""
    period = max(2 * (count - 1), 1)
    index = torch.arange(-before, count + after) % period
    return torch.where(index < count, index, period - index)
