"""Reading of the segments of a JPEG file: metadata, and the places of the coded pixels.

The decoder of the pixels receives no metadata, so a damaged block never makes a photo unreadable.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from refusion.images.exif import exif_dpi
from refusion.images.gain_map_file import find_gain_map
from refusion.images.iptc import read_resources
from refusion.images.jpeg_blocks import JpegBlocks, end_of_picture, extended_packet, read_blocks
from refusion.images.multi_picture import further_pictures
from refusion.images.photo import Photo
from refusion.images.source import Source, joined, search, trailing
from refusion.images.xmp import FILM, GAIN_MAP, extended_name

_FILM = re.compile(b"ftyp")
_DEFAULT_DPI = 72.0  # of EXIF 2.32


def read_jpeg(file: BinaryIO) -> Source:
    """Read the metadata of a JPEG file; of several pictures, the first one is read.

    A gain map is kept, see `GainMap`.

    Args:
        file: opened for reading.

    Raises:
        ValueError: the picture has too many scans.
    """
    found = read_blocks(file)
    end = end_of_picture(file, found.end) or file.seek(0, 2)
    pictures = further_pictures(file, found, end)
    gain_map, place = find_gain_map(file, pictures) or (None, None)
    listed = sum(begin == place.begin for begin, _ in found.index.places) if place else 0
    if place is not None and place.begin == pictures[0].begin:
        end = place.end  # nothing is lost up to there
    names = [*_behind(file, end, found, found.index.count - 1 - listed), *found.dropped]
    if found.is_iso_gain_map and gain_map is None:
        names.append(GAIN_MAP)
    photo = replace(_photo(found, names), gain_map=gain_map)
    return Source(photo, file, joined(found.pixels), tuple(names))


def _behind(file: BinaryIO, end: int, found: JpegBlocks, further: int) -> list[str]:
    """What follows the offset `end`: names, as far as they are known.

    `further` is the number of pictures there that the multi-picture index lists.
    """
    rest = trailing(file, end)
    if rest and not further and search(file, end, _FILM):
        return [FILM]
    if rest and not further and not found.index.has_previews:
        file.seek(end)
        is_picture = file.read(3) == b"\xff\xd8\xff"
        return [_pictures(1) if is_picture else f"{rest} bytes behind the picture"]
    return [_pictures(further)] if further > 0 else []


def _pictures(count: int) -> str:
    return f"{count} more picture{'s' * (count > 1)}"


def _photo(found: JpegBlocks, names: list[str]) -> Photo:
    resources, exif = read_resources(b"".join(found.photoshop)), b"".join(found.exif)
    extended = extended_packet(found)
    is_named = bool(found.extended) or extended_name(found.xmp) is not None
    if is_named and (extended is None or len(found.extended) > 1):
        names.append("extended XMP packet (damaged)")
    return Photo(
        np.empty(0),
        format="JPEG",
        icc=_profile(found.icc, names),
        exif=exif or None,
        xmp=found.xmp or None,
        xmp_extended=extended,
        iptc=resources.iptc,
        photoshop=resources.others,
        comments=tuple(found.comments),
        dpi=_dpi(found.jfif, exif, names),
        lossless=False,
    )


def _profile(parts: list[bytes], names: list[str]) -> bytes | None:
    """Join the numbered parts of an ICC profile."""
    parts = sorted(parts, key=lambda part: part[12])
    if parts and [part[12] for part in parts] != list(range(1, parts[0][13] + 1)):
        names.append("damaged ICC profile")
        return None
    return b"".join(part[14:] for part in parts) or None


def _dpi(jfif: bytes, exif: bytes, names: list[str]) -> tuple[float, float] | None:
    """Resolution of the JFIF segment, else that of the EXIF block, else the default of EXIF."""
    if len(jfif) >= 12:
        unit, across, down = struct.unpack_from(">BHH", jfif, 7)
        if unit in (1, 2):
            scale = {1: 1, 2: 2.54}[unit]
            return across * scale, down * scale
        if across != down and across and down:
            names.append(f"pixel aspect ratio {across}:{down}")
    if not exif:
        return None
    return exif_dpi(exif) or (_DEFAULT_DPI, _DEFAULT_DPI)
