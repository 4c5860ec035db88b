"""Estimate of the memory that writing a photo needs, from measured peaks of the process."""

from __future__ import annotations

from pathlib import Path

from refusion.images.listing import FORMATS
from refusion.images.photo import Photo

_BAND_ROWS = 256  # rows that are converted to float at once
_BAND_BYTES = 64  # per pixel: float copies of the band, three colours and alpha
_PNG_ALPHA_BAND_BYTES = 112  # measured in some processes, which do not reuse what a band frees
_DEEPEST = {"PNG": 16, "TIFF": 32, "AVIF": 16, "JXL": 16}
# Bytes per pixel of the encoders, besides the samples themselves.
_ENCODER = {"JPEG": 4, "PNG": 0, "TIFF": 0, "WEBP": 27, "AVIF": 40, "JXL": 40}
_GAIN_MAP = 3  # more with a gain map: the coded photo in memory twice, and the turned map


def write_memory(path: Path, photo: Photo, width: int, height: int) -> int:
    """Estimate the bytes that `write_image` needs at its peak, without the image that it gets.

    Args:
        path: path of the file; its suffix selects the format.
        photo: the photo whose properties the file will have.
        width: of the written image in pixels.
        height: of the written image in pixels.
    """
    kind = FORMATS.get(path.suffix.lower(), photo.format)
    channels = (3 if photo.mode == "rgb" else 1) + (photo.alpha is not None)
    depth = min(photo.bit_depth, _DEEPEST.get(kind, 8))
    samples = channels * depth // 8
    if (kind == "TIFF" and photo.tiff_compression != "none") or (
        kind == "PNG" and photo.bit_depth > 8
    ):
        samples *= 2  # the coded strips of a TIFF, or the other byte order of a deep PNG
    is_png_alpha = kind == "PNG" and photo.alpha is not None
    band_bytes = _PNG_ALPHA_BAND_BYTES if is_png_alpha else _BAND_BYTES
    band = min(height, _BAND_ROWS) * width * band_bytes
    encoder = 1 if kind == "JPEG" and photo.mode == "gray" else _ENCODER[kind]
    if kind == "JPEG" and photo.gain_map is not None:
        encoder += _GAIN_MAP
    return width * height * (samples + encoder) + band
