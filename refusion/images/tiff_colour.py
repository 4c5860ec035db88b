"""Conversion of unpacked samples of a TIFF page to gray or RGB, with or without alpha."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refusion.images.cmyk import CmykProfile
from refusion.images.tiff_layout import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    TiffLayout,
)
from refusion.images.tiff_tags import TagError, TiffTags


@dataclass(frozen=True)
class TiffColours:
    """Converts the samples of a page.

    Attributes:
        layout: of the page.
        palette: RGB values (2^bits, 3), uint8 or uint16, of a page with a palette.
        profile: of a CMYK page; None for none.
    """

    layout: TiffLayout
    palette: np.ndarray | None = None
    profile: CmykProfile | None = None

    @property
    def channels(self) -> int:
        """1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha)."""
        colours = 1 if self.layout.colours == 1 and self.palette is None else 3
        return colours + (self.layout.alpha is not None)

    @cached_property
    def dtype(self) -> np.dtype:
        """Type of the converted samples: uint8 or uint16 over the full range, or float32."""
        if self.layout.kind == "float":
            return np.dtype(np.float32)
        if self.palette is not None:
            return self.palette.dtype
        return np.dtype(np.uint8 if self.layout.bits <= 8 else np.uint16)

    def used(self, samples: np.ndarray) -> np.ndarray:
        """The samples (..., n) that are colours or alpha."""
        indices = [*range(self.layout.colours), self.layout.alpha]
        indices = [index for index in indices if index is not None]
        if indices == list(range(len(indices))):
            return samples[..., : len(indices)]  # a view
        return samples[..., indices]

    def convert(self, samples: np.ndarray) -> np.ndarray:
        """Convert samples (rows, columns, n), as `used` returns them, to (rows, columns, channels).

        Associated alpha is divided out of the colours. White-is-zero samples are inverted, and
        CMYK becomes sRGB through its profile, or without one RGB by (1 - C) (1 - K). Both apply to
        the colours only.
        """
        layout, bits = self.layout, self.layout.bits
        colour, alpha = samples[..., : layout.colours], samples[..., layout.colours :]
        if self.palette is not None:
            colour, bits = self.palette[colour[..., 0]], 8 * self.dtype.itemsize
            alpha = in_range(alpha, layout.bits, self.dtype)
        if self._is_associated:
            colour = unmultiplied(colour, alpha, self.dtype)
        else:
            colour = in_range(colour, bits, self.dtype)
        alpha = in_range(alpha, bits, self.dtype)
        if layout.photometric == WHITE_IS_ZERO:
            colour = _full(self.dtype) - colour
        elif self.profile is not None:
            colour = self.profile.to_srgb(colour)
        elif layout.photometric == CMYK:
            colour = _rgb_of_cmyk(colour)
        return np.concatenate([colour, alpha], axis=2) if alpha.shape[2] else colour

    @property
    def is_identity(self) -> bool:
        """Whether `convert` returns integer samples as they are, and all of them are used."""
        is_plain = self.layout.photometric in (BLACK_IS_ZERO, RGB) and not self._is_associated
        is_full = self.layout.kind == "uint" and self.layout.bits in (8, 16)
        return is_plain and is_full and self.layout.samples == self.channels

    @property
    def _is_associated(self) -> bool:
        alpha = self.layout.alpha
        return alpha is not None and self.layout.extras[alpha - self.layout.colours] == ASSOCIATED


def read_colours(
    tags: TiffTags, layout: TiffLayout, profile: CmykProfile | None = None
) -> TiffColours:
    """Read what the conversion of the samples needs.

    Args:
        tags: of the page.
        layout: of the page.
        profile: of a CMYK page; None for none.

    Raises:
        TagError: the palette is missing or wrong.
    """
    if layout.photometric != PALETTE:
        return TiffColours(layout, profile=profile)
    number = 3 * 2**layout.bits
    values = np.array(tags.integers(320, 0, 65535, number), np.uint16)
    if len(values) < number:
        raise TagError(f"tag ColorMap has {len(values)} values, expected {number}")
    palette = np.ascontiguousarray(values.reshape(3, -1).T)
    # Many writers have 8-bit colours and store them as k * 257, as k * 256, or as k.
    if (palette % 257 == 0).all():
        return TiffColours(layout, (palette // 257).astype(np.uint8))
    if (palette % 256 == 0).all():
        return TiffColours(layout, (palette // 256).astype(np.uint8))
    if (palette < 256).all():
        return TiffColours(layout, palette.astype(np.uint8))
    return TiffColours(layout, palette)


def _full(dtype: np.dtype) -> int:
    """Largest value of a sample."""
    return 1 if dtype.kind == "f" else np.iinfo(dtype).max


def in_range(samples: np.ndarray, bits: int, dtype: np.dtype) -> np.ndarray:
    """Samples of any depth over the full range of a type, rounded to nearest.

    Args:
        samples: unsigned integers of `bits` bits; or floats, which keep their values.
        bits: of the samples, at most 16.
        dtype: uint8, uint16 or float32.
    """
    if dtype.kind == "f":
        return samples.astype(dtype, copy=False)
    given, full = 2**bits - 1, _full(dtype)
    if given == full:
        return samples
    # Below 2^16 * 2^16 + 2^15, so 32 bits are sufficient.
    return ((samples.astype(np.uint32) * full + given // 2) // given).astype(dtype)


def unmultiplied(colour: np.ndarray, alpha: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Divide colour that is stored multiplied by alpha; 0 where alpha is 0.

    Args:
        colour: (..., C), over the same range as `alpha`.
        alpha: (..., 1).
        dtype: of the result, uint8, uint16 or float32.
    """
    precise = np.float32 if colour.dtype.itemsize < 4 else np.float64
    alpha = alpha.astype(precise)
    share = colour / np.where(alpha > 0, alpha, 1)
    straight = np.where(alpha > 0, np.minimum(share, 1), 0) * _full(dtype)
    return (straight if dtype.kind == "f" else np.rint(straight)).astype(dtype)


def _rgb_of_cmyk(inks: np.ndarray) -> np.ndarray:
    """RGB as (1 - C) (1 - K), in integers as (full - K) minus the rounded ink on that paper."""
    if inks.dtype.kind == "f":
        return (1 - inks[..., :3]) * (1 - inks[..., 3:])
    full = _full(inks.dtype)
    light = full - inks[..., 3:].astype(np.uint32)
    dark = (inks[..., :3] * light + full // 2) // full
    return (light - dark).astype(inks.dtype)
