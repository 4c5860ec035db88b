"""XMP packets (ISO 16684-1): orientation, and claims that are no longer true.

All other bytes of a packet stay as they are.
"""

from __future__ import annotations

import re

from refusion.images.xml_edit import Name, XmlError, edited, utf8

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NOTE = "http://ns.adobe.com/xmp/note/"
HDR_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
APPLE_GAIN_MAP = "http://ns.apple.com/HDRGainMap/1.0/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
ITEM = "http://ns.google.com/photos/1.0/container/item/"
# Dynamic Depth 1.0: cameras with depth maps, and a container directory of its own.
DYNAMIC_DEPTH = "http://ns.google.com/photos/dd/1.0/"
DEPTH_MAP = f"{DYNAMIC_DEPTH}depthmap/"
GDEPTH = "http://ns.google.com/photos/1.0/depthmap/"
"""Namespace of a depth map inside a packet, or inside its extended packet."""
_XMP = "http://ns.adobe.com/xap/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_WIDTHS = ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension"))
_HEIGHTS = ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension"))
GAIN_MAP, FILM, DEPTH = "gain map (HDR)", "film (motion photo)", "depth map"
"""Names for warnings."""
EXTENDED = (NOTE, "HasExtendedXMP")
"""Name of the property that names an extended packet."""
# Properties that describe other pictures of the file: namespace, pattern of the local name, and
# what the property claims to exist (empty: only the entry of a list).
_CLAIMS = (
    (HDR_GAIN_MAP, ".*", GAIN_MAP),
    (APPLE_GAIN_MAP, ".*", GAIN_MAP),
    (CONTAINER, ".*", ""),
    (ITEM, ".*", ""),
    (f"{DYNAMIC_DEPTH}container/", ".*", ""),
    (f"{DYNAMIC_DEPTH}item/", ".*", ""),
    (f"{DYNAMIC_DEPTH}device/", ".*", ""),
    (DEPTH_MAP, ".*", DEPTH),
    (_XMP, "Thumbnails", ""),
)
_OWN_SPACES = frozenset(space for space, _, _ in _CLAIMS if space != _XMP) | {
    "http://ns.google.com/photos/1.0/camera/"
}
# Each maker of phones has a namespace of its own for these.
_FILM = re.compile("(MotionPhoto|MicroVideo).*")
_FILM_SWITCHES = ("MotionPhoto", "MicroVideo")
# A packet that makes a claim or has a document type contains one of these.
_WORDS = tuple(
    word.encode()
    for word in (*_OWN_SPACES, NOTE, "<!DOCTYPE", "<!ENTITY", *_FILM_SWITCHES, "Thumbnails")
)
_SEMANTICS = {"GainMap": GAIN_MAP, "MotionPhoto": FILM, "Depth": DEPTH}


def upright_xmp(xmp: bytes) -> bytes:
    """Return the XMP packet with ``tiff:Orientation`` 1, as attribute or as element."""
    try:
        return edited(xmp, lambda _: False, {(_TIFF, "Orientation"): b"1"})[0]
    except XmlError:
        return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def sized_xmp(xmp: bytes | None, width: int, height: int) -> bytes | None:
    """Return the XMP packet with the size of the image where it states one.

    Args:
        xmp: packet, or None.
        width: in pixels.
        height: in pixels.
    """
    if xmp is None or not any(local.encode() in xmp for _, local in (*_WIDTHS, *_HEIGHTS)):
        return xmp
    values = dict.fromkeys(_WIDTHS, b"%d" % width) | dict.fromkeys(_HEIGHTS, b"%d" % height)
    try:
        return edited(xmp, lambda _: False, values)[0]
    except XmlError:
        return xmp


def without_claims(
    xmp: bytes, *, extended: bool, turned: bool = False
) -> tuple[bytes | None, set[str]]:
    """Remove properties that describe other pictures, films or thumbnails of the file.

    Args:
        xmp: packet.
        extended: whether the file has the extended packet that this packet names; otherwise its
            name is removed, too.
        turned: whether the photo is turned upright; then the properties of a depth map inside the
            packet are removed, too.

    Returns:
        The packet, and what the removed properties describe. A packet that cannot be parsed is
        kept if it cannot make such a claim; otherwise it is dropped (None).
    """

    def is_claim(name: Name) -> bool:
        if name == EXTENDED:
            return not extended
        if name[0] == GDEPTH:
            return turned
        return bool(_FILM.fullmatch(name[1])) or any(
            name[0] == space and re.fullmatch(local, name[1]) for space, local, _ in _CLAIMS
        )

    try:
        text = utf8(xmp)
        has_map = turned and GDEPTH.encode() in text
        if not has_map and not any(word in text for word in _WORDS):
            return xmp, set()
        packet, removed = edited(xmp, is_claim, unneeded=_OWN_SPACES)
    except XmlError:
        return None, {"XMP packet that cannot be read"}
    found = {_SEMANTICS.get(value, "") for (_, local), value in removed if local == "Semantic"}
    found |= {FILM for (_, local), value in removed if local in _FILM_SWITCHES and value != "0"}
    spaces = {space for (space, _), _ in removed}
    found |= {what for space, _, what in _CLAIMS if space in spaces}
    found |= {DEPTH} if GDEPTH in spaces else set()
    return packet, found - {""}


def extended_name(xmp: bytes) -> str | None:
    """Name (MD5 digest in hexadecimal) of the extended packet that a packet names."""
    if EXTENDED[1].encode() not in xmp:
        return None
    try:
        _, removed = edited(xmp, lambda name: name == EXTENDED)
    except XmlError:
        return None
    return next((value for _, value in removed if value), None)
