"""How haze is removed from a photo, for models that predict the haze; needs no other library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refusion.arguments import is_between
from refusion.errors import ConfigError, short

LARGEST_EXPOSURE = 4.0  # stops

# The automatic exposure. Dense haze takes light from the scene itself, so a photo is too dark
# without it. Its dark values are multiplied by the factor that makes a gray with the mean of the
# result as bright as `AUTO_MEAN`; by a part of it where the mean of 1 - t of the removed haze is
# between the limits `AUTO_HAZE`, and not at all below the first one.
AUTO_MEAN = 0.52
AUTO_HAZE = 0.6, 0.7
LARGEST_GAIN = 2.0  # largest factor of dark values by the automatic exposure


@dataclass(frozen=True)
class HazeOptions:
    """How a model with the prediction `scattering` removes haze; the default removes all of it.

    Attributes:
        distance: share of the largest optical depth up to which haze is removed, in [0, 1]. What is
            farther keeps the haze behind this distance.
        airlight: colour of the haze, RGB in [0, 1]; None for the colour that the model predicts,
            which varies over the photo.
        exposure: change of the exposure of photos with haze, in stops, -4 to 4; 'auto' brightens a
            photo that is dark without its dense haze, see `AUTO_MEAN`.
        draw: whether the haze is a random draw by the seed, from the distribution that the model
            predicts; False for the estimate of the network, which does not depend on the seed.

    Raises:
        ConfigError: a value has another type or is out of range.
    """

    distance: float = 1.0
    airlight: tuple[float, float, float] | None = None
    exposure: float | Literal["auto"] = "auto"
    draw: bool = False

    def __post_init__(self) -> None:
        if not is_between(self.distance, 0, 1):
            raise ConfigError(
                f"distance: expected a number from 0 to 1, got {short(self.distance)}"
            )
        is_auto = isinstance(self.exposure, str) and self.exposure == "auto"
        if not is_auto and not is_between(self.exposure, -LARGEST_EXPOSURE, LARGEST_EXPOSURE):
            raise ConfigError(
                f"exposure: expected 'auto' or stops from {-LARGEST_EXPOSURE:g} to "
                f"{LARGEST_EXPOSURE:g}, got {short(self.exposure)}"
            )
        if self.airlight is not None:
            object.__setattr__(self, "airlight", _checked_airlight(self.airlight))


def automatic_gain(mean: float, amount: float) -> float:
    """The factor of dark values of a photo without its haze by the exposure 'auto', 1 to 2.

    Args:
        mean: mean of the photo without haze, in [0, 1].
        amount: mean of 1 - t of the haze that was removed; below 0 for haze that was added.
    """
    low, high = AUTO_HAZE
    share = min(max((amount - low) / (high - low), 0.0), 1.0)
    # The tone curve of factor g takes a gray x to g x / (1 + (g - 1) x).
    gain = AUTO_MEAN * (1 - mean) / (max(mean, 1e-3) * (1 - AUTO_MEAN))
    return 1 + share * (min(max(gain, 1.0), LARGEST_GAIN) - 1)


def _checked_airlight(value: object) -> tuple[float, float, float]:
    """Three floats; the value can be an array or a tensor, too."""
    parts = value.tolist() if hasattr(value, "tolist") else value
    is_list = isinstance(parts, (tuple, list)) and len(parts) == 3
    if not is_list or not all(is_between(part, 0, 1) for part in parts):
        raise ConfigError(
            "airlight: expected red, green and blue from 0 to 1, or None for the colour that the "
            f"model predicts, got {short(parts)}"
        )
    red, green, blue = map(float, parts)
    return red, green, blue


ALL_HAZE = HazeOptions()
"""The default: all haze, its predicted colour, automatic exposure."""
