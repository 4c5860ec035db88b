"""Other tones for clean photos, so that few of them stand for many scenes and exposures.

Wallpapers are bright, contrasty and colourful; rooms, roads and lawns are not. A model that only
saw the former takes a grey wall for fog.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.randomness import bernoulli, uniform
from refusion.synthesis.checks import check_settings

Range = tuple[float, float]
LUMA = (0.299, 0.587, 0.114)
_DOMAINS = {"gain": (-4.0, 4.0), "exponent": (-3.0, 3.0), "saturation": (0.0, 4.0)}


@dataclass(frozen=True)
class Tones:
    """Which tones are drawn; pairs are (low, high) of a uniform draw.

    Attributes:
        strength: shrinks all ranges; 0 leaves every photo as it is.
        kept: share of the photos whose tone stays.
        gain: brightness, in stops of the display values.
        exponent: of the tone curve, in powers of two; > 0 darkens the middle.
        warmth: largest excess of red over blue or of blue over red, relative.
        saturation: distance from grey, 1 as it was.

    Raises:
        ConfigError: a range is reversed or out of its domain.
    """

    strength: float = 1.0
    kept: float = 0.2
    gain: Range = (-1.0, 0.3)
    exponent: Range = (-0.4, 0.6)
    warmth: float = 0.25
    saturation: Range = (0.1, 1.2)

    def __post_init__(self) -> None:
        check_settings(self, _DOMAINS)

    def draw(self, generator: Generator) -> Tone:
        """Draw a tone."""
        strength = self.strength
        tone = Tone(
            gain=2 ** (strength * uniform(generator, *self.gain)),
            exponent=2 ** (strength * uniform(generator, *self.exponent)),
            warmth=strength * self.warmth * uniform(generator, -1, 1),
            saturation=1 + strength * (uniform(generator, *self.saturation) - 1),
        )
        return Tone() if bernoulli(generator, self.kept) else tone


@dataclass(frozen=True)
class Tone:
    """Tone curve, colour temperature and saturation of a photo, the same for all its parts.

    Attributes:
        gain: factor of the display values.
        exponent: of the tone curve, > 1 darkens the middle.
        warmth: relative gain of red, and loss of blue.
        saturation: distance from grey, 1 as it was.
    """

    gain: float = 1.0
    exponent: float = 1.0
    warmth: float = 0.0
    saturation: float = 1.0

    def __call__(self, photo: Tensor) -> Tensor:
        """The photo (3, H, W) in [0, 1] in this tone."""
        if self == Tone():
            return photo
        temperature = torch.tensor([1 + self.warmth, 1.0, 1 - self.warmth])[:, None, None]
        toned = (photo * (self.gain * temperature)).clamp(0, 1) ** self.exponent
        grey = torch.einsum("chw,c->hw", toned, torch.tensor(LUMA))
        return torch.lerp(grey.expand_as(toned), toned, self.saturation).clamp(0, 1)


def tones_of(setting: float | Tones) -> Tones:
    """The tones that a setting asks for: a strength from 0 to 1 of the usual ranges, or ranges.

    Raises:
        ConfigError: a strength out of its domain.
    """
    if isinstance(setting, Tones):
        return setting
    if not 0 <= setting <= 1:
        raise ConfigError(f"tone: expected a strength from 0 to 1, got {setting}")
    return Tones(strength=setting)
