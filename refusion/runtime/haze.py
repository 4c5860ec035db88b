"""Removal of haze: the optical depth of a small copy, and the scattering model on the photo.

What `refusion.restorers.refusion.decomposition` does with its default options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from refusion.runtime.guided import guided_bands, guided_filter
from refusion.runtime.samples import store, to_float


def clear(
    photo: np.ndarray,
    copy: np.ndarray,
    tau: np.ndarray,
    airlight: np.ndarray,
    strength: float,
    haze: Mapping[str, Any],
    fit: Mapping[str, Any],
) -> np.ndarray:
    """The photo without haze.

    Args:
        photo: (3, H, W), integers or float in [0, 1].
        copy: the photo or its small copy, (3, h, w) float.
        tau: optical depth of the copy, (1, h, w), see `certain_depth`.
        airlight: colour of the haze at each pixel of the copy, (3, h, w).
        strength: factor of the optical depth, -2 to 2.
        haze: part 'haze' of the plan of the file.
        fit: part 'copy' of the plan: window and smoothness of the guided transfer.

    Returns:
        Samples like `photo`; a photo without haze is returned as it is.
    """
    if not tau.any():
        return photo.copy()
    out = np.empty_like(photo)
    if photo.shape == copy.shape:
        bands = [(slice(None), np.concatenate([tau, airlight]))]
    else:
        bands = guided_bands(tau, copy, photo, fit["window"], fit["smoothness"], airlight)
    limit = -math.log(haze["min_transmission"])
    for rows, values in bands:
        part = to_float(photo[:, rows])
        depth = values[:1].clip(0, None) * np.float32(strength)
        part += (part - values[1:]) * np.expm1(depth.clip(None, limit))
        store(part, out[:, rows])
    return out


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
    return smooth.clip(0, None) * np.float32(sure)
