"""How haze is removed from a photo, for models that predict the haze; needs no other library."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal

from refusion.errors import ConfigError, short

LARGEST_EXPOSURE = 4.0  # stops


@dataclass(frozen=True)
class HazeOptions:
    """How a model with the prediction `scattering` removes haze; the default removes all of it.

    Attributes:
        distance: share of the largest optical depth up to which haze is removed, in [0, 1]. What is
            farther keeps the haze behind this distance.
        airlight: colour of the haze, RGB in [0, 1]; None for the colour that the model predicts,
            which varies over the photo.
        exposure: change of the exposure of photos with haze, in stops, -4 to 4; 'auto' gives back
            half of the brightness, in stops, that a photo loses with its haze.
        draw: whether the haze is a random draw by the seed, from the distribution that the model
            predicts; False for the estimate of the network, which does not depend on the seed.

    Raises:
        ConfigError: a value has another type or is out of range.
    """

    distance: float = 1.0
    airlight: tuple[float, float, float] | None = None
    exposure: float | Literal["auto"] = 0.0
    draw: bool = False

    def __post_init__(self) -> None:
        if not is_between(self.distance, 0, 1):
            raise ConfigError(
                f"distance: expected a number from 0 to 1, got {short(self.distance)}"
            )
        if self.exposure != "auto" and not is_between(
            self.exposure, -LARGEST_EXPOSURE, LARGEST_EXPOSURE
        ):
            raise ConfigError(
                f"exposure: expected 'auto' or stops from {-LARGEST_EXPOSURE:g} to "
                f"{LARGEST_EXPOSURE:g}, got {short(self.exposure)}"
            )
        if self.airlight is not None:
            object.__setattr__(self, "airlight", _checked_airlight(self.airlight))


def is_between(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to `high`; false for NaN and for truth values."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


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
"""The default: all haze, its predicted colour, the exposure as it is."""
