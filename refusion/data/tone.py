"""Other tones for clean photos, so that few of them stand for many scenes and exposures.

Wallpapers are bright, contrasty and colourful; rooms, roads and lawns are not. A model that only
saw the former takes a grey wall for fog.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from refusion.data.degradations.draws import happens
from refusion.data.stream import uniform

LUMA = (0.299, 0.587, 0.114)
KEPT = 0.2  # share of the photos whose tone stays
DARKER, BRIGHTER = -1.0, 0.3  # stops
STEEPER, FLATTER = 0.6, -0.4  # exponent of the tone curve, in powers of two
GREYER, RICHER = 0.1, 1.2  # saturation
WARMTH = 0.25  # largest excess of red over blue or of blue over red, relative


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

    @classmethod
    def draw(cls, generator: Generator, strength: float) -> Tone:
        """Draw a tone.

        Args:
            generator: source of randomness.
            strength: 0 leaves every photo as it is, 1 draws from the whole ranges.
        """
        tone = cls(
            gain=2 ** (strength * uniform(generator, DARKER, BRIGHTER)),
            exponent=2 ** (strength * uniform(generator, FLATTER, STEEPER)),
            warmth=strength * WARMTH * uniform(generator, -1, 1),
            saturation=1 + strength * (uniform(generator, GREYER, RICHER) - 1),
        )
        return cls() if happens(generator, KEPT) else tone

    def __call__(self, photo: Tensor) -> Tensor:
        """The photo (3, H, W) in [0, 1] in this tone."""
        if self == Tone():
            return photo
        temperature = torch.tensor([1 + self.warmth, 1.0, 1 - self.warmth])[:, None, None]
        toned = (photo * (self.gain * temperature)).clamp(0, 1) ** self.exponent
        grey = torch.einsum("chw,c->hw", toned, torch.tensor(LUMA))
        return torch.lerp(grey.expand_as(toned), toned, self.saturation).clamp(0, 1)
