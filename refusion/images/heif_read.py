"""Reading of HEIC files with pillow-heif, and of AVIF files with imagecodecs.

Both are HEIF files (ISO/IEC 23008-12). The metadata comes from their boxes. Rotation and mirroring
are properties of the image there, so the orientation of the EXIF block does not count.
"""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import numpy as np

from refusion.images.av1_size import frame_size
from refusion.images.colour import cicp_chunk
from refusion.images.decode import finish
from refusion.images.exif import exif_dpi
from refusion.images.heif_boxes import HeifFile, Item, orientation_of, read_boxes, tiff_header
from refusion.images.packages import load
from refusion.images.photo import Photo
from refusion.images.tiff_colour import in_range, unmultiplied
from refusion.images.xmp import GAIN_MAP
from refusion.images.zero_tail import check_zero_tail

logger = logging.getLogger(__name__)

_STILL, _SEQUENCE = b"avif", b"avis"  # brands
_XMP_TYPE = b"application/rdf+xml"
# Names of auxiliary images for a warning, by a part of their type; alpha is kept.
_AUXILIARY = ((b"alpha", None), (b"auxid:1", None), (b"gainmap", GAIN_MAP), (b"depth", "depth map"))
_AUXILIARY += ((b"auxid:2", "depth map"), (b"21496", GAIN_MAP))  # ISO 21496-1


def decode_heif(file: BinaryIO, kind: str, size: tuple[int, int]) -> Photo:
    """Decode the main image of a HEIC or AVIF file.

    Args:
        file: opened for reading.
        kind: "HEIC" or "AVIF".
        size: width and height of the header, which are already checked.

    Raises:
        ValueError: the file is damaged, or a package is missing.
        Exception: any exception that the decoder raises for damaged bytes.
    """
    boxes = read_boxes(file)
    dropped = _other_images(boxes)
    file.seek(0)
    data = file.read()
    if kind == "AVIF":
        _check_frames(data, boxes)
        decode, orientation = partial(_decoded_avif, boxes=boxes), orientation_of(boxes.primary)
        dropped += ["clean aperture"] if boxes.primary.of_kind(b"clap") else []
    else:
        decode, orientation = _decoded_heic, 1
    pixels, bits = decode(data)
    check_zero_tail(data, boxes.places(len(data)), pixels, lambda changed: decode(changed)[0])
    if sorted(pixels.shape[:2]) != sorted(size) and not boxes.primary.of_kind(b"clap"):
        raise ValueError("its parts state different sizes")
    if any(brand in (b"avis", b"msf1", b"hevc") for brand in boxes.brands):
        logger.warning("%s: animated, only the first frame is used", file.name)
    photo = _described(file, boxes, "AVIF" if kind == "AVIF" else "JPEG", dropped)
    wide = np.dtype(np.uint8 if bits == 8 else np.uint16)
    photo = finish(photo, in_range(pixels, bits, wide), file.name, orientation, dropped)
    return replace(photo, coded_depth=0 if bits == 8 else bits)


def _check_frames(data: bytes, boxes: HeifFile) -> None:
    """Raise `ValueError` if the coded stream of an image is larger than its box says."""
    left, checked = 2 * len(data), set()
    for item in boxes.items.values():
        if item.kind != b"av01":
            continue
        key = item.size, item.method, tuple(item.extents)
        if key in checked:  # equal tiles may share their data
            continue
        checked.add(key)
        left -= sum(length for _, length in item.extents)
        if left < 0:
            raise ValueError("damaged boxes")
        source = boxes.inline if item.method else data
        parts = (source[offset : offset + length] for offset, length in item.extents)
        width, height = frame_size(b"".join(parts))
        if width > item.size[0] or height > item.size[1]:
            raise ValueError("its parts state different sizes")


def _decoded_avif(data: bytes, boxes: HeifFile) -> tuple[np.ndarray, int]:
    """Samples (H, W, C) as they are stored, and their number of bits."""
    if data[8:12] == _SEQUENCE:
        # The decoder then takes the main image. Of tracks, imagecodecs 2026.3 writes all frames
        # into the memory of the first one, which crashes the program.
        data = data[:8] + _STILL + data[12:]
    pixels = load("AVIF").avif_decode(data, index=0)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 4 and _is_gray(boxes.primary):
        pixels = pixels[..., [0, 3]]
    if pixels.dtype == np.uint8:
        return pixels, 8
    depth = _coded_depth(boxes)
    if pixels.max(initial=0) >= 1 << depth:
        raise ValueError("its parts state different depths")
    return pixels, depth


def _is_gray(item: Item) -> bool:
    """Whether an AVIF image has no colours, which the decoder returns as RGB beside alpha."""
    return any(content[2:3] and content[2] & 0x10 for content in item.of_kind(b"av1C"))


def _coded_depth(boxes: HeifFile) -> int:
    """Bits per sample of an AVIF image with more than 8, or of the tiles that it is made of."""
    for item in (boxes.primary, *boxes.items.values()):
        for content in item.of_kind(b"av1C"):
            return 12 if content[2:3] and content[2] & 0x20 else 10
    return max(10, boxes.primary.depth)


def _decoded_heic(data: bytes) -> tuple[np.ndarray, int]:
    """Upright samples (H, W, C) as they are stored, and their number of bits."""
    package = load("HEIC")
    image = package.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    pixels = np.array(image)  # a copy, because PyTorch takes no read-only array
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    bits = 8 if pixels.dtype == np.uint8 else int(image.info["bit_depth"])
    if not 8 <= bits <= 16:
        raise ValueError(f"{bits} bits per sample, expected 8 to 16")
    if image.premultiplied_alpha:
        full = in_range(pixels, bits, pixels.dtype)
        colour = unmultiplied(full[..., :-1], full[..., -1:], full.dtype)
        return np.concatenate([colour, full[..., -1:]], axis=2), full.dtype.itemsize * 8
    return pixels, bits


def _described(file: BinaryIO, boxes: HeifFile, kind: str, dropped: list[str]) -> Photo:
    """The `Photo` of the main image, still without samples."""
    exif = xmp = None
    for item in boxes.describing(boxes.primary):
        is_xmp = item.kind == b"mime" and item.content_type == _XMP_TYPE
        if not is_xmp and item.kind != b"Exif":
            continue
        try:
            content = boxes.read(file, item)
        except ValueError:
            dropped.append(f"damaged {'XMP' if is_xmp else 'EXIF'} block")
            continue
        if is_xmp:
            xmp = xmp or content
        else:
            exif = exif or tiff_header(content)
    icc, chunks = _colours(boxes.primary)
    return Photo(
        np.empty(0),
        format=kind,
        icc=icc,
        exif=exif or None,
        xmp=xmp or None,
        dpi=exif_dpi(exif),
        png_colour=chunks,
        lossless=False,
    )


def _colours(item: Item) -> tuple[bytes | None, bytes]:
    """ICC profile of an image; without one, its code points as a PNG chunk."""
    found = {content[:4]: content[4:] for content in reversed(item.of_kind(b"colr"))}
    icc = found.get(b"prof") or found.get(b"rICC")
    codes = found.get(b"nclx", b"")
    if icc or len(codes) < 4:
        return icc or None, b""
    return None, cicp_chunk(int.from_bytes(codes[:2], "big"), int.from_bytes(codes[2:4], "big"))


def _other_images(boxes: HeifFile) -> list[str]:
    """Names of the auxiliary images that no result keeps."""
    names = []
    for item in boxes.referring(b"auxl", boxes.primary):
        known = (name for part, name in _AUXILIARY if part in item.auxiliary_type)
        names += filter(None, [next(known, "auxiliary image")])
    if any(item.kind == b"tmap" for item in boxes.items.values()):
        names.append(GAIN_MAP)
    return names
