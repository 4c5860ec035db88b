"""Conversion between a profile and linear light, which lossy JPEG XL takes and gives.

The encoder takes linear light with the primaries of sRGB, and a decoder without colour management
gives it for a file with a profile. Values outside [0, 1] are colours outside sRGB, so nothing is
clipped.
"""

from __future__ import annotations

import numpy as np
from PIL import ImageCms

from refusion.images.colour import srgb_primaries_profile
from refusion.images.packages import load

_ROWS = 1024  # per band


def to_linear(pixels: np.ndarray, icc: bytes | None) -> np.ndarray:
    """Linear light (H, W, C), float32, of samples with a profile.

    Args:
        pixels: (H, W, C) uint8 or uint16; C gray or RGB.
        icc: ICC profile; None for sRGB.

    Raises:
        RuntimeError: the profile cannot be used.
    """
    is_gray = pixels.shape[2] < 3
    source = icc or srgb_primaries_profile(None, is_gray=is_gray)
    linear = srgb_primaries_profile(1.0, is_gray=is_gray)
    return _converted(pixels, source, linear, np.dtype(np.float32))


def from_linear(pixels: np.ndarray, icc: bytes, dtype: np.dtype) -> np.ndarray:
    """Samples with a profile of linear light, as `to_linear` returns it.

    Args:
        pixels: (H, W, C) float32; C gray, gray+alpha, RGB or RGBA, alpha in [0, 1].
        icc: ICC profile.
        dtype: uint8, uint16 or float32 of the result.

    Raises:
        RuntimeError: the profile cannot be used.
    """
    channels = pixels.shape[2]
    linear = srgb_primaries_profile(1.0, is_gray=channels < 3)
    converted = _converted(pixels, linear, icc, dtype)
    if channels in (2, 4):
        full = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        alpha = pixels[..., -1].clip(0, 1) * full
        converted[..., -1] = alpha if full == 1 else np.rint(alpha)
    return converted


def _converted(pixels: np.ndarray, source: bytes, target: bytes, dtype: np.dtype) -> np.ndarray:
    package, channels = load("JXL"), pixels.shape[2]
    space = "gray" if channels < 3 else "rgb"
    colours = 1 if channels < 3 else 3
    converted = np.empty(pixels.shape, dtype)
    for top in range(0, len(pixels), _ROWS):
        band = np.ascontiguousarray(pixels[top : top + _ROWS, :, :colours])
        result = package.cms_transform(
            band[..., 0] if colours == 1 else band,
            source,
            target,
            colorspace=space,
            outcolorspace=space,
            outdtype=dtype,
            intent=int(ImageCms.Intent.RELATIVE_COLORIMETRIC),
        )
        converted[top : top + _ROWS, :, :colours] = result.reshape(band.shape)
    return converted
