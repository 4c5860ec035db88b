"""Rain: layers of motion-blurred streaks, and the mist of distant drops.

Streaks R are added in screen mode, I = 1 - (1 - J)(1 - R), so that white stays white. The mist is
I = J (1 - v) + A v (Garg and Nayar 2007; Yang et al. 2017 for layers and mist). Lengths are in
pixels of the crop, because the apparent size of drops does not depend on the size of the photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from refusion.randomness import bernoulli, log_uniform, randint, uniform
from refusion.synthesis.camera import add_noise, file_round_trip
from refusion.synthesis.checks import check_settings
from refusion.synthesis.scenes.fields import smooth_field
from refusion.synthesis.scenes.frame import PhotoFrame

SPACING = 1.2  # distance of the Gaussians of a streak in standard deviations; gives ripples of 2e-6
_DOMAINS = {
    "layers": (1, 8),
    "density": (0.0, 100.0),
    "length": (1.0, 500.0),
    "width": (0.7, 10.0),
    "angle": (-90.0, 90.0),
    "angle_spread": (0.0, 90.0),
    "jpeg_quality": (1, 100),
}


@dataclass(frozen=True)
class Rain:
    """Rain from drizzle to heavy rain; lengths in pixels.

    A pair (low, high) is the range of a uniform draw; a share is a probability. The nearest
    layer has the drawn length, width and brightness; each layer behind it has more, and shorter,
    thinner, fainter streaks.

    Attributes:
        layers: smallest and largest number of layers.
        density: streaks per 1000 pixels in all layers together; log-uniform.
        length: length of the nearest streaks.
        width: full width of the profile of the nearest streaks at 0.6 of its height.
        angle: mean tilt from the vertical in degrees, positive to the right.
        angle_spread: standard deviation of the tilt in degrees.
        brightness: brightness of the nearest streaks at their centre.
        shrink: factor of size and brightness from each layer to the next one behind it.
        veil_share: share of the samples with mist.
        veil: mean opacity of the mist.
        airlight: brightness of the mist.
        noise_share: share of the samples with sensor noise.
        noise: standard deviation of the noise at value 1.
        jpeg_share: share of the samples with JPEG compression.
        jpeg_quality: JPEG quality, 1..100.

    Raises:
        ConfigError: a setting is out of its domain, or a range is not ascending.
    """

    layers: tuple[int, int] = (1, 4)
    density: tuple[float, float] = (0.3, 8.0)
    length: tuple[float, float] = (15.0, 60.0)
    width: tuple[float, float] = (1.0, 3.0)
    angle: tuple[float, float] = (-35.0, 35.0)
    angle_spread: tuple[float, float] = (0.0, 4.0)
    brightness: tuple[float, float] = (0.25, 0.9)
    shrink: tuple[float, float] = (0.5, 0.85)
    veil_share: float = 0.5
    veil: tuple[float, float] = (0.0, 0.35)
    airlight: tuple[float, float] = (0.55, 0.9)
    noise_share: float = 0.2
    noise: tuple[float, float] = (0.002, 0.01)
    jpeg_share: float = 0.2
    jpeg_quality: tuple[int, int] = (70, 98)

    def __post_init__(self) -> None:
        """Check every setting."""
        check_settings(self, _DOMAINS)

    def __call__(self, clean: Tensor, generator: Generator, frame: PhotoFrame) -> dict[str, Tensor]:
        """{"lq"}: the image (3, H, W) with rain, 8-bit levels."""
        size = (clean.shape[-2], clean.shape[-1])
        return self._photograph(clean, self._draw_streaks(size, generator), generator)

    def draw_scene(self, thumbnail: Tensor, generator: Generator) -> RainScene:
        """Draw the rain over a photo, see `SceneDegradation`."""
        return RainScene(self, int(torch.randint(2**62, (), generator=generator)))

    def apply(
        self, clean: Tensor, scene: RainScene, generator: Generator, frame: PhotoFrame
    ) -> dict[str, Tensor]:
        """{"lq"}: a crop (3, H, W) with a random part of the streaks of its photo, and own mist."""
        size = (clean.shape[-2], clean.shape[-1])
        shifts = tuple(randint(generator, 0, side - 1) for side in size)
        streaks = scene.streaks(size).roll(shifts, (0, 1))
        return self._photograph(clean, streaks, generator)

    def _photograph(
        self, clean: Tensor, streaks: Tensor, generator: Generator
    ) -> dict[str, Tensor]:
        passed = 1 - streaks.clamp_(0, 1)
        rainy = (1 - self._mist(clean, generator)).mul_(passed).neg_().add_(1)
        if bernoulli(generator, self.noise_share):
            noise = uniform(generator, *self.noise)
            rainy = add_noise(rainy, generator, read=noise / 3, shot=noise)
        return {"lq": file_round_trip(rainy, generator, self.jpeg_share, self.jpeg_quality)}

    def _mist(self, clean: Tensor, generator: Generator) -> Tensor:
        veil, air = uniform(generator, *self.veil), uniform(generator, *self.airlight)
        if not bernoulli(generator, self.veil_share):
            return clean
        size = (clean.shape[-2], clean.shape[-1])
        opacity = veil * (1 + 0.25 * smooth_field(size, generator, modes=4).clamp(-2, 2))
        return torch.lerp(clean, torch.full_like(clean, air), opacity.clamp(0, 1))

    def _draw_streaks(
        self, size: tuple[int, int], generator: Generator, *, periodic: bool = False
    ) -> Tensor:
        """Sum of the layers, (H, W) >= 0; see `Streaks.draw`."""
        density = log_uniform(generator, *self.density) / 1000
        count = randint(generator, *self.layers)
        length, width = uniform(generator, *self.length), uniform(generator, *self.width)
        bright, shrink = uniform(generator, *self.brightness), uniform(generator, *self.shrink)
        angle, spread = uniform(generator, *self.angle), uniform(generator, *self.angle_spread)
        total = torch.zeros(size)
        crowding = [shrink ** (-2 * layer) for layer in range(count)]
        for layer, crowd in enumerate(crowding):
            scale = shrink**layer
            streaks = Streaks(
                density * crowd / sum(crowding), length * scale, width * scale, angle, spread
            )
            total += bright * scale * streaks.draw(size, generator, periodic=periodic)
        return total


@dataclass(frozen=True)
class RainScene:
    """The streaks over a photo; lengths are in pixels of a crop, so they have the size of a crop.

    Attributes:
        rain: settings of the rain.
        seed: seed of the streaks.
        drawn: streaks by the size of the crops; they are drawn when a crop first needs them.
    """

    rain: Rain
    seed: int
    drawn: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def streaks(self, size: tuple[int, int]) -> Tensor:
        """Streaks (H, W) >= 0 that continue at the opposite border; shared, do not modify."""
        if size not in self.drawn:
            generator = Generator().manual_seed(self.seed)
            self.drawn[size] = self.rain._draw_streaks(size, generator, periodic=True)
        return self.drawn[size]


@dataclass(frozen=True)
class Streaks:
    """One layer of streaks, at one distance.

    Attributes:
        density: streaks per pixel.
        length: mean length in pixels; streaks have 0.6 to 1.4 times this length.
        width: full width in pixels at 0.6 of the height; values below 0.7 are treated as 0.7.
        angle: mean tilt from the vertical in degrees, positive to the right.
        spread: standard deviation of the tilt in degrees.
    """

    density: float
    length: float
    width: float
    angle: float
    spread: float

    def draw(
        self, size: tuple[int, int], generator: Generator, *, periodic: bool = False
    ) -> Tensor:
        """Draw streaks with heights of 0.5 to 1 and soft ends; returns their sum, (H, W).

        A streak is a row of overlapping Gaussians at sub-pixel positions, so it is smooth and not
        aliased at any angle.

        Args:
            size: (H, W) in pixels.
            generator: source of randomness.
            periodic: continue streaks that leave the image at the opposite border.
        """
        margin = 0.0 if periodic else 0.75 * self.length
        area = (size[0] + 2 * margin) * (size[1] + 2 * margin)
        count = int(self.density * area + uniform(generator, 0, 1))
        place = torch.rand(2, count, 1, generator=generator)
        spans = torch.tensor([size[0] + 2 * margin, size[1] + 2 * margin])[:, None, None]
        middle = place * spans - margin
        tilt = self.angle + self.spread * torch.randn(count, 1, generator=generator)
        length = self.length * (0.6 + 0.8 * torch.rand(count, 1, generator=generator))
        height = 0.5 + 0.5 * torch.rand(count, 1, generator=generator)
        deviation = max(self.width, 0.7) / 2
        steps = max(2, math.ceil(1.4 * self.length / (SPACING * deviation)))
        along = torch.linspace(-0.5, 0.5, steps)[None, :]
        down, right = torch.cos(torch.deg2rad(tilt)), torch.sin(torch.deg2rad(tilt))
        rows, columns = middle[0] + along * length * down, middle[1] + along * length * right
        overlap = deviation * math.sqrt(2 * math.pi) * (steps - 1) / length
        soft_ends = (4 * (0.5 - along.abs())).clamp(0, 1)
        heights = height * soft_ends / overlap
        if periodic:
            return _splat_periodic(rows, columns, heights, deviation, size)
        return _splat(rows, columns, heights, deviation, size)


def _splat_periodic(
    rows: Tensor, columns: Tensor, heights: Tensor, deviation: float, size: tuple[int, int]
) -> Tensor:
    """As `_splat`, on an image that continues at the opposite border."""
    reach = min(math.ceil(3 * deviation), (min(size) - 1) // 2)
    rows, columns = rows.flatten().remainder(size[0]), columns.flatten().remainder(size[1])
    padded = (size[0] + 2 * reach + 1, size[1] + 2 * reach + 1)
    sums = _splat(rows + reach, columns + reach, heights.flatten(), deviation, padded)
    for axis, side in enumerate(size):  # add what lies beyond a border at the opposite one
        inner = sums.narrow(axis, reach, side).clone()
        inner.narrow(axis, side - reach, reach).add_(sums.narrow(axis, 0, reach))
        inner.narrow(axis, 0, reach + 1).add_(sums.narrow(axis, reach + side, reach + 1))
        sums = inner
    return sums


def _splat(
    rows: Tensor, columns: Tensor, heights: Tensor, deviation: float, size: tuple[int, int]
) -> Tensor:
    """Sum (H, W) of Gaussians at sub-pixel positions (n, m), cropped to the image."""
    height, width = size
    reach = math.ceil(3 * deviation)
    inside = (rows > -reach) & (rows < height + reach - 1)
    inside &= (columns > -reach) & (columns < width + reach - 1)
    rows, columns, heights = rows[inside], columns[inside], heights[inside]
    offsets = torch.arange(-reach, reach + 1)
    row, column = rows.round().long() + offsets[:, None], columns.round().long() + offsets[:, None]
    profile = [
        torch.exp(-0.5 * ((index - place) / deviation) ** 2) * ((index >= 0) & (index < side))
        for index, place, side in ((row, rows, height), (column, columns, width))
    ]
    row, column = row.clamp_(0, height - 1), column.clamp_(0, width - 1)
    canvas, vertical = torch.zeros(height * width), profile[0] * heights
    for across in range(len(offsets)):
        index = row * width + column[across]
        canvas.index_add_(0, index.flatten(), (vertical * profile[1][across]).flatten())
    return canvas.view(height, width)
