"""Metadata of a photo in the form that the format of its result can hold.

A block without a place in the format gives its texts (copyright, author, description, comment) to
the EXIF block, which every format has. What is lost is named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refusion.images import png_text
from refusion.images.colour import has_code_points, profile_of_png
from refusion.images.exif import (
    ARTIST,
    COMMENT,
    COPYRIGHT,
    DESCRIPTION,
    SOFTWARE,
    TITLE,
    decoded,
    exif_dpi,
    exif_texts,
    with_entries,
)
from refusion.images.exif_copy import shortened_exif
from refusion.images.gain_map_file import listing_gain_map
from refusion.images.iptc import iptc_texts
from refusion.images.photo import Photo
from refusion.images.png_read import chunk
from refusion.images.xmp import GAIN_MAP, without_claims
from refusion.images.xmp_extended import joined_xmp, split_xmp

JPEG_SEGMENT = 65000
"""Largest content of a segment of a JPEG in bytes, without headers."""
_DEFAULT_DPI = (72.0, 72.0)  # of EXIF 2.32
_ONLY_EXIF = ("WEBP", "AVIF", "JXL")  # formats with a place for EXIF and XMP, not for IPTC
_JPEG_PROFILE = 255 * JPEG_SEGMENT
_SEARCHED = 1 << 28  # characters of all searches for texts that are already kept
# EXIF tags for the keywords of the PNG specification.
_KEYWORDS = {
    "Copyright": COPYRIGHT,
    "Author": ARTIST,
    "Description": DESCRIPTION,
    "Title": TITLE,
    "Software": SOFTWARE,
    "Comment": COMMENT,
}


def fitted(photo: Photo, kind: str) -> tuple[Photo, list[str]]:
    """Adapt the metadata of a photo to a format.

    Args:
        photo: with metadata of any format.
        kind: "JPEG", "PNG", "TIFF", "WEBP", "AVIF" or "JXL".

    Returns:
        The photo, whose metadata the format can hold, and the names of what is lost.
    """
    lost: list[str] = []
    photo = _with_texts(photo, kind, lost)
    if kind != "JPEG" and photo.xmp_extended is not None:
        photo = _with_joined_xmp(photo, lost)
    if kind != "PNG" and not (kind == "AVIF" and has_code_points(photo.png_colour)):
        photo = _with_profile(photo, lost)
    if kind in _ONLY_EXIF:
        photo = _with_resolution(photo)
    if kind == "JPEG":
        photo = _within_segments(photo, lost)
    if photo.gain_map is not None:
        photo = _with_gain_map(photo, kind, lost)
    return photo, lost


def _with_texts(photo: Photo, kind: str, lost: list[str]) -> Photo:
    """Move texts between PNG chunks, comments, IPTC records and the EXIF block."""
    texts = list(png_text.texts_in(photo.png_chunks))
    comments = tuple(decoded(comment) for comment in photo.comments)
    if kind == "PNG":
        added = [chunk(*png_text.text_chunk("Comment", comment)) for comment in comments]
        return replace(photo, png_chunks=photo.png_chunks + b"".join(added), comments=())
    pairs = [(text.keyword, text.text) for text in texts]
    if kind == "JPEG":
        own = tuple(text.encode() for name, text in pairs if name == "Comment")
        photo = replace(photo, comments=photo.comments + own)
        pairs = [pair for pair in pairs if pair[0] != "Comment"]
    else:
        pairs += [("Comment", comment) for comment in comments]
        photo = replace(photo, comments=())
    wanted = [(_KEYWORDS.get(name.capitalize()), text, f"text '{name}'") for name, text in pairs]
    wanted.sort(key=lambda item: item[0] == COMMENT)  # a comment takes the places that are left
    if kind in _ONLY_EXIF and photo.iptc:
        wanted += [(tag, text, "IPTC text") for tag, text in iptc_texts(photo.iptc).items()]
        lost.append("IPTC records (EXIF keeps their copyright, author and caption)")
    if kind in _ONLY_EXIF and photo.photoshop:
        lost.append("Photoshop resources")
    exif, unplaced = _placed(photo.exif, wanted)
    names = (name for name, _ in png_text.split_chunks(photo.png_chunks))
    lost += [f"chunk {name.decode('latin-1')}" for name in names if name not in png_text.KINDS]
    lost += unplaced
    return replace(photo, exif=exif, png_chunks=b"")


def _placed(
    exif: bytes | None, wanted: Iterable[tuple[int | None, str, str]]
) -> tuple[bytes | None, list[str]]:
    """Add texts to an EXIF block where it has none.

    Args:
        exif: the block.
        wanted: tag, None for no place; text; and name of the text for a warning.

    Returns:
        The block, and the names of the texts that have no place.
    """
    texts, added, unplaced = exif_texts(exif), {}, []
    left = _SEARCHED
    for tag, text, name in wanted:
        text = text.strip("\0 \r\n")
        if not text:
            continue
        if tag == COMMENT and DESCRIPTION not in texts:
            tag = DESCRIPTION
        if tag is None or texts.get(tag, text) != text:
            is_kept = left > 0 and any(text in other for other in texts.values())
            left -= sum(map(len, texts.values()))
            unplaced += [] if is_kept else [name]
        elif tag not in texts:
            texts[tag] = added[tag] = text
    return (with_entries(exif, added) if added else exif), unplaced


def _with_joined_xmp(photo: Photo, lost: list[str]) -> Photo:
    packet = joined_xmp(photo.xmp, photo.xmp_extended)
    if packet is None:
        lost.append("extended XMP packet")
        packet, _ = without_claims(photo.xmp, extended=False)
    return replace(photo, xmp=packet, xmp_extended=None)


def _with_profile(photo: Photo, lost: list[str]) -> Photo:
    """State the colour space of PNG chunks as an ICC profile."""
    icc = photo.icc
    if icc is None and photo.png_colour:
        icc, unknown = profile_of_png(photo.png_colour, is_gray=photo.mode == "gray")
        lost += [unknown] if unknown else []
    return replace(photo, icc=icc, png_colour=b"")


def _with_resolution(photo: Photo) -> Photo:
    is_default = photo.dpi is None or not all(photo.dpi) or photo.dpi == _DEFAULT_DPI
    if is_default or exif_dpi(photo.exif) is not None:
        return photo
    return replace(photo, exif=with_entries(photo.exif, {}, photo.dpi))


def _within_segments(photo: Photo, lost: list[str]) -> Photo:
    """Shorten what a segment of a JPEG cannot hold."""
    exif, xmp, extended = photo.exif, photo.xmp, photo.xmp_extended
    if exif is not None and len(exif) > JPEG_SEGMENT:
        exif = shortened_exif(exif, JPEG_SEGMENT)
        lost.append("values of an EXIF block too long for a JPEG")
    if xmp is not None and len(xmp) > JPEG_SEGMENT:
        joined = xmp if extended is None else joined_xmp(xmp, extended)
        xmp, extended = (joined and split_xmp(joined)) or (None, None)
        lost += [] if xmp else ["XMP block too long for a JPEG"]
    if photo.icc is not None and len(photo.icc) > _JPEG_PROFILE:
        photo = replace(photo, icc=None)
        lost.append("ICC profile too long for a JPEG")
    comments = tuple(comment for comment in photo.comments if len(comment) <= JPEG_SEGMENT)
    if comments != photo.comments:
        lost.append("comment too long for a JPEG")
    return replace(photo, exif=exif, xmp=xmp, xmp_extended=extended, comments=comments)


def _with_gain_map(photo: Photo, kind: str, lost: list[str]) -> Photo:
    """Turn the gain map upright and list it in the XMP packet, or drop it."""
    gain_map = photo.gain_map.upright() if kind == "JPEG" else None
    if gain_map is not None and gain_map.is_ultra_hdr:
        xmp = listing_gain_map(photo.xmp, gain_map)
        if xmp is not None and len(xmp) <= JPEG_SEGMENT:
            return replace(photo, xmp=xmp, gain_map=gain_map)
        gain_map = None
    if gain_map is None:
        lost.append(GAIN_MAP)
    return replace(photo, gain_map=gain_map)
