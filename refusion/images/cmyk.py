"""Conversion of CMYK to sRGB through the colour profile of a photo.

Little CMS converts: Pillow contains it for 8 bits, imagecodecs for 16. The intent is relative
colorimetric with black point compensation, as is usual for photos.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageCms

from refusion.images.tiff_codecs import imagecodecs

logger = logging.getLogger(__name__)

_SPACE = "CMYK"
_ROWS = 256  # per band


@dataclass(frozen=True)
class CmykProfile:
    """ICC profile of a CMYK photo.

    Attributes:
        icc: the profile, which `cmyk_profile` has checked.
    """

    icc: bytes

    def to_srgb(self, inks: np.ndarray) -> np.ndarray:
        """Convert amounts of ink (H, W, 4) to sRGB (H, W, 3) of the same type.

        Args:
            inks: uint8 or uint16, whose largest value is full ink; or float, 1 is full ink.
        """
        if inks.dtype.kind == "f":
            levels = np.rint(inks.clip(0, 1) * 65535).astype(np.uint16)
            return (self._deep(levels) / 65535).astype(inks.dtype)
        if inks.dtype == np.uint16:
            return self._deep(inks)
        pixels = np.empty((*inks.shape[:2], 3), np.uint8)
        for top in range(0, len(inks), _ROWS):
            band = Image.fromarray(np.ascontiguousarray(inks[top : top + _ROWS]), _SPACE)
            pixels[top : top + _ROWS] = np.asarray(ImageCms.applyTransform(band, self._transform))
        return pixels

    @cached_property
    def _transform(self) -> ImageCms.ImageCmsTransform:
        return ImageCms.buildTransform(
            io.BytesIO(self.icc),
            ImageCms.createProfile("sRGB"),
            _SPACE,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )

    def _deep(self, inks: np.ndarray) -> np.ndarray:
        package = imagecodecs()
        return package.cms_transform(
            np.ascontiguousarray(inks),
            self.icc,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            colorspace="cmyk",
            outcolorspace="rgb",
            outdtype=np.uint16,
            intent=package.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=package.CMS.FLAGS.BLACKPOINTCOMPENSATION,
        )


def cmyk_profile(icc: bytes | None, name: str) -> CmykProfile | None:
    """The profile of a CMYK photo, and a warning about how its colours are converted.

    Args:
        icc: ICC profile of the file, or None.
        name: path of the file, for the warning.

    Returns:
        None without a profile, or if it is damaged or not for CMYK; the colours are then converted
        by a simple formula.
    """
    fault = "it has no colour profile" if icc is None else _fault(icc)
    if fault is None:
        logger.warning("%s: CMYK is converted to sRGB through its colour profile", name)
        return CmykProfile(icc)
    logger.warning(
        "%s: CMYK is converted to RGB by a simple formula, colours may differ: %s", name, fault
    )
    return None


def _fault(icc: bytes) -> str | None:
    """Why a profile cannot be used; None if it can."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
        if space == _SPACE:
            CmykProfile(icc).to_srgb(np.zeros((1, 1, 4), np.uint8))
    except (OSError, ValueError, ImageCms.PyCMSError):
        return "its colour profile is damaged"
    return None if space == _SPACE else f"its colour profile is for {space}"
