"""Gaussian blur of a lens, and motion blur of a camera that moves during the exposure.

Kernels sum to 1 and have their centroid at the centre, so that brightness is preserved and the
blurred image is aligned with the sharp one. Camera shake follows the random path of Boracchi and
Foi (2012) as in Kupyn et al. (2018): a point with inertia gets random impulses, a force towards the
start, and occasional sudden reversals.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.randomness import uniform
from refusion.synthesis.camera import GAMMA, add_noise, power, power_, quantise
from refusion.synthesis.checks import check_settings
from refusion.synthesis.fourier import convolve
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
    blurred = power_(blurred, 1 / GAMMA) if is_linear else blurred
    level = uniform(generator, *noise)
    return quantise(add_noise(blurred, generator, read=level / 3, shot=level))
