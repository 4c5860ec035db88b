"""Random tone changes of clean training photos: brightness, contrast and colour.

Photo collections are often bright, contrasty and colourful, while rooms, roads and lawns are not. A
model that is trained on such photos only can mistake a grey wall for fog.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from refusion.errors import ConfigError
from refusion.hints import Share
from refusion.randomness import bernoulli, uniform
from refusion.synthesis.checks import check_settings

Range = tuple[float, float]
LUMA = (0.299, 0.587, 0.114)
_FLAT_WHITE = (0.75, 1.0)
_FLAT_EXPONENT, _FLAT_SATURATION = (-1.0, 0.3), (0.3, 1.0)
_CAST = (-0.2, 0.6)
_DOMAINS = {
    "gain": (-4.0, 4.0),
    "exponent": (-3.0, 3.0),
    "saturation": (0.0, 4.0),
    "flat_black": (0.0, 0.5),
}


@dataclass(frozen=True)
class Tones:
    """Ranges of random tones; a pair (low, high) is the range of a uniform draw.

    Attributes:
        strength: factor of these ranges, 0..1; 0 leaves every photo unchanged by them.
        kept: share of the photos that keep their tone.
        gain: log2 of the factor of the display values (stops).
        exponent: log2 of the exponent of the tone curve; values > 0 darken the midtones.
        warmth: largest relative change of red, and opposite change of blue.
        saturation: factor of the saturation; 1 leaves it unchanged, 0 gives grey.
        flat_share: share of the photos, with or without a tone, that also get little contrast and
            colour, as rooms with one lamp have: lifted blacks, lowered whites, another exponent.
        flat_black: display value of black in these photos. With large values they look like photos
            in haze.
        cast_share: share of the photos in the strongly coloured light of lamps or of a low sun.

    Raises:
        ConfigError: a range is not ascending or out of its domain.
    """

    strength: float = 1.0
    kept: float = 0.2
    gain: Range = (-1.0, 0.3)
    exponent: Range = (-0.4, 0.6)
    warmth: float = 0.25
    saturation: Range = (0.1, 1.2)
    flat_share: Share = 0.0
    flat_black: Range = (0.0, 0.25)
    cast_share: Share = 0.0

    def __post_init__(self) -> None:
        check_settings(self, _DOMAINS)

    @property
    def has_effect(self) -> bool:
        """Whether any photo can get another tone."""
        return bool(self.strength or self.flat_share or self.cast_share)

    def draw(self, generator: Generator) -> Tone:
        """Draw a tone."""
        strength = self.strength
        tone = Tone(
            gain=2 ** (strength * uniform(generator, *self.gain)),
            exponent=2 ** (strength * uniform(generator, *self.exponent)),
            warmth=strength * self.warmth * uniform(generator, -1, 1),
            saturation=1 + strength * (uniform(generator, *self.saturation) - 1),
        )
        tone = Tone() if bernoulli(generator, self.kept) else tone
        if self.flat_share and bernoulli(generator, self.flat_share):
            tone = replace(
                tone,
                exponent=tone.exponent * 2 ** uniform(generator, *_FLAT_EXPONENT),
                saturation=tone.saturation * uniform(generator, *_FLAT_SATURATION),
                black=uniform(generator, *self.flat_black),
                white=uniform(generator, *_FLAT_WHITE),
            )
        if self.cast_share and bernoulli(generator, self.cast_share):
            tone = replace(tone, cast=uniform(generator, *_CAST))
        return tone


@dataclass(frozen=True)
class Tone:
    """Tone curve, colour temperature and saturation, constant over a photo.

    Attributes:
        gain: factor of the display values.
        exponent: exponent of the tone curve; values > 1 darken the midtones.
        warmth: relative increase of red and decrease of blue.
        saturation: factor of the saturation; 1 leaves it unchanged, 0 gives grey.
        black: display value of black.
        white: display value of white.
        cast: warmth of the light, applied last; the brightest channel does not change.
    """

    gain: float = 1.0
    exponent: float = 1.0
    warmth: float = 0.0
    saturation: float = 1.0
    black: float = 0.0
    white: float = 1.0
    cast: float = 0.0

    def __call__(self, photo: Tensor) -> Tensor:
        """Apply the tone to a photo (3, H, W) in [0, 1]; returns the same shape and range."""
        return photo if self == Tone() else self._saturated(self._curve(photo))

    def of_levels(self, levels: Tensor) -> Tensor:
        """Apply the tone to 8-bit levels (3, H, W) uint8; float32 in [0, 1], as for levels / 255.

        The tone curve is computed for the 256 levels only.
        """
        if self == Tone():
            return levels.float().div_(255)
        table = self._curve(torch.arange(256, dtype=torch.float32).div_(255).expand(3, 1, 256))
        places = levels.flatten(1).int() + torch.tensor([[0], [256], [512]], dtype=torch.int32)
        photo = table.flatten().index_select(0, places.flatten()).view(levels.shape)
        return self._saturated(photo)

    def _curve(self, photo: Tensor) -> Tensor:
        temperature = torch.tensor([1 + self.warmth, 1.0, 1 - self.warmth])[:, None, None]
        return (photo * (self.gain * temperature)).clamp_(0, 1).pow_(self.exponent)

    def _saturated(self, photo: Tensor) -> Tensor:
        """The photo, changed in place."""
        red, green, blue = LUMA
        grey = (red * photo[0]).add_(photo[1], alpha=green).add_(photo[2], alpha=blue)
        photo = torch.lerp(grey.expand_as(photo), photo, self.saturation).clamp_(0, 1)
        if (self.black, self.white) != (0, 1):
            photo = photo.mul_(self.white - self.black).add_(self.black)
        if not self.cast:
            return photo
        light = torch.tensor([1 + self.cast, 1.0, 1 - self.cast]) / (1 + abs(self.cast))
        return photo.mul_(light[:, None, None])


def tones_of(setting: float | Tones) -> Tones:
    """Convert the setting `tone` to ranges.

    Args:
        setting: a strength 0..1 of the default ranges, or the ranges themselves.

    Raises:
        ConfigError: the strength is outside [0, 1].
    """
    if isinstance(setting, Tones):
        return setting
    if not 0 <= setting <= 1:
        raise ConfigError(f"tone: expected a strength from 0 to 1, got {setting}")
    return Tones(strength=setting)
