"""Removal of haze: the optical depth of a small copy, and the scattering model on the photo.

What `refusion.restorers.refusion.decomposition` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refusion.haze_options import ALL_HAZE, HazeOptions, automatic_gain
from refusion.images.frame import WHOLE, Area
from refusion.runtime.guided import guided_bands, guided_filter
from refusion.runtime.samples import store, to_float


@dataclass(frozen=True)
class Decomposition:
    """The haze of a photo, which gives its scene without haze; it does not hold the photo.

    Attributes:
        copy: the photo or its small copy, (3, h, w) float in [0, 1].
        tau: optical depth of the copy, (1, h, w), see `certain_depth`; 0 without haze.
        airlight: colour of the haze at each pixel of the copy, (3, h, w), or everywhere, (3, 1, 1).
        constants: part 'haze' of the plan of the file.
        fit: part 'copy' of the plan: window and smoothness of the guided transfer.
        area: part of the photo that `copy` shows; a frame around it stays as it is.
    """

    copy: np.ndarray
    tau: np.ndarray
    airlight: np.ndarray
    constants: Mapping[str, Any]
    fit: Mapping[str, Any]
    area: Area = WHOLE

    def clear(
        self, photo: np.ndarray, strength: float = 1.0, options: HazeOptions = ALL_HAZE
    ) -> np.ndarray:
        """The photo without haze.

        Args:
            photo: (3, H, W), integers or float in [0, 1].
            strength: factor of the optical depth, -2 to 2.
            options: distance, colour of the haze and exposure; there is no draw.

        Returns:
            Samples like `photo`; a photo without haze is returned as it is.
        """
        if options.airlight is not None:
            airlight = np.array(options.airlight, np.float32)[:, None, None]
            return replace(self, airlight=airlight).clear(
                photo, strength, replace(options, airlight=None)
            )
        farthest, result = self._farthest(options.distance), photo.copy()
        if strength == 0 or farthest == 0 or not self.tau.any():
            return result
        gain, inside, out = self._gain(strength, options), self.area.of(photo), self.area.of(result)
        for rows, tau, airlight in self._bands(inside):
            depth = tau.clip(0, farthest) * np.float32(strength)
            scene = self._scene(to_float(inside[:, rows]), depth, airlight)
            store(scene if gain == 1 else brighten(scene, gain), out[:, rows])
        return result

    def amount(self, photo: np.ndarray) -> np.ndarray:
        """How much haze each pixel has, 1 - t, (1, H, W) float32 in [0, 1].

        Args:
            photo: (3, H, W), integers or float in [0, 1].
        """
        amount = np.zeros((1, *photo.shape[1:]), np.float32)
        inside, out = self.area.of(photo), self.area.of(amount)
        for rows, tau, _ in self._bands(inside) if self.tau.any() else ():
            out[:, rows] = -np.expm1(-tau.clip(0, None))
        return amount

    def _scene(self, part: np.ndarray, depth: np.ndarray, airlight: np.ndarray) -> np.ndarray:
        limit = -math.log(self.constants["min_transmission"])
        return part + (part - airlight) * np.expm1(depth.clip(None, limit))

    def _farthest(self, distance: float) -> float:
        """Largest optical depth that is removed."""
        return math.inf if distance == 1 else distance * float(self.tau.max())

    def _gain(self, strength: float, options: HazeOptions) -> float:
        """Factor of the dark values."""
        if options.exposure != "auto":
            return 2 ** (options.exposure / self.constants["gamma"])
        depth = self.tau.clip(None, self._farthest(options.distance)) * np.float32(strength)
        scene = self._scene(self.copy, depth, self.airlight).clip(0, 1)
        return automatic_gain(float(scene.mean()), float(-np.expm1(-depth).mean()))

    def _bands(self, photo: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Rows of the photo, with tau and airlight of these rows."""
        if photo.shape == self.copy.shape:
            yield slice(None), self.tau, self.airlight
            return
        smooth = None if self.airlight.shape[1:] == (1, 1) else self.airlight
        fit = self.fit["window"], self.fit["smoothness"]
        for rows, values in guided_bands(self.tau, self.copy, photo, *fit, smooth):
            yield rows, values[:1], self.airlight if smooth is None else values[1:]


def brighten(image: np.ndarray, gain: float) -> np.ndarray:
    """A monotone tone curve that keeps black and white: dark values grow by `gain`.

    Args:
        image: any values; those outside [0, 1] are clamped.
        gain: slope at 0, above 0.
    """
    image = image.clip(0, 1)
    slope = np.float32(gain - 1) * image
    return image + slope * (1 - image) / (1 + slope)


def certain_depth(
    tau: np.ndarray, copy: np.ndarray, structure: float, haze: Mapping[str, Any]
) -> np.ndarray:
    """The optical depth with the edges of the image, and 0 where there is too little haze.

    Args:
        tau: optical depth that the network found, (1, h, w).
        copy: the image, (3, h, w) float.
        structure: structure of the photo, 0 to 1.
        haze: part 'haze' of the plan of the file.
    """
    low, high = haze["limits"]
    amount = float((1 - np.exp(-tau)).mean())
    sure = min(max((amount - low) / (high - low), 0.0), 1.0) * structure
    window = 2 * int(max(tau.shape[1:]) * haze["window"] / 2) + 1
    smooth = guided_filter(tau, copy, window, haze["smoothness"])
    return smooth.clip(0, None) * np.float32(haze.get("scale", 1) * sure)
