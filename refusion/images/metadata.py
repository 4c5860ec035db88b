"""Checks the metadata of a photo when it is read, and makes it true for the upright photo."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from refusion.images.exif import exif_orientation, repaired_exif, upright_exif
from refusion.images.photo import Photo
from refusion.images.xmp import GAIN_MAP, sized_xmp, upright_xmp, without_claims

_MAX_DPI = 65535  # a JPEG holds no higher number


def checked(photo: Photo, dropped: Sequence[str] = ()) -> tuple[Photo, list[str]]:
    """Repair or drop damaged blocks, and remove properties that are no longer true.

    Args:
        photo: with metadata as found in its file.
        dropped: names of what is already dropped.

    Returns:
        The photo with sound metadata, and the names of everything that is dropped.
    """
    lost = list(dropped)
    exif, xmp, extended = photo.exif, photo.xmp, photo.xmp_extended
    if exif is not None:
        try:
            exif, count = repaired_exif(exif)
            lost += [f"{count} damaged EXIF tag{'s' * (count > 1)}"] if count else []
        except struct.error:
            exif = None
            lost.append("damaged EXIF block")
    dpi, claims = photo.dpi, set()
    if dpi is not None and not all(0 < value <= _MAX_DPI for value in dpi):
        lost += ["resolution that is too high"] if max(dpi) > _MAX_DPI else []
        dpi = None
    if xmp is not None:
        turned = exif is not None and exif_orientation(exif) != 1
        xmp, claims = without_claims(xmp, extended=extended is not None, turned=turned)
    if photo.gain_map is not None:  # it is kept, and a writer adds its claims again
        claims -= {GAIN_MAP}
    lost = _merged(lost, claims)
    extended = None if xmp is None else extended
    return replace(photo, exif=exif, xmp=xmp, xmp_extended=extended, dpi=dpi), lost


def _merged(dropped: Sequence[str], claims: set[str]) -> list[str]:
    """Names of what is dropped; the XMP packet may have a better name for what the file has."""
    known = {"1 more picture"} if GAIN_MAP in claims or GAIN_MAP in dropped else set()
    return [*sorted(claims), *(name for name in dropped if name not in known)]


def upright_metadata(photo: Photo, orientation: int, width: int, height: int) -> Photo:
    """Make the metadata true for a photo whose orientation has been applied.

    Args:
        photo: with sound metadata, see `checked`.
        orientation: EXIF orientation 1..8 that has been applied.
        width: width of the upright photo in pixels.
        height: height of the upright photo in pixels.
    """
    exif, xmp, dpi, gain_map = photo.exif, photo.xmp, photo.dpi, photo.gain_map
    if gain_map is not None:
        gain_map = replace(gain_map, orientation=orientation)
    if exif is not None:
        exif = upright_exif(exif, width, height)
    if xmp is not None and orientation != 1:
        xmp = upright_xmp(xmp)
    if dpi is not None and orientation >= 5:
        dpi = dpi[1], dpi[0]
    xmp = sized_xmp(xmp, width, height)
    return replace(photo, exif=exif, xmp=xmp, dpi=dpi, gain_map=gain_map)
