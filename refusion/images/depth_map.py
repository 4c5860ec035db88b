"""Reading of the depth map that a photo brings along, as phones write it for portraits.

Larger is nearer in every result. A lens blurs in proportion to differences of disparity (inverse
depth), and the strength of the blur is an option. So neither the unit nor the zero point of a map
matters, and nothing is converted to metres. A map that is linear in depth needs its near and far
depth, because their ratio decides how disparity depends on the values.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin

from refusion.errors import ImageError
from refusion.files import open_regular
from refusion.images.decode import apply_orientation, samples
from refusion.images.decoder_warnings import quiet_decoders
from refusion.images.depth_find import DISPARITY, INVERSE, LINEAR, StoredDepth, find_depth
from refusion.images.header import check_header, read_header
from refusion.images.jpeg_read import read_jpeg
from refusion.images.jpeg_rows import check_blocks
from refusion.images.listing import HEAD, format_by_bytes
from refusion.images.packages import load
from refusion.images.png_read import read_png
from refusion.images.png_rows import check_rows, check_sums

MAX_PIXELS = 1 << 25
"""Largest width times height of a depth map inside a photo."""

Kind = TypeVar("Kind")
_ADVICE = "give a map of the photo by --disparity FILE"
_UNIFORM_DEPTH = 2  # type of representation of a HEIC map: linear in depth, brighter is farther
_SHAPE = 0.02  # tolerance of the logarithm of the ratio of two aspect ratios


def has_depth_map(path: str | Path) -> bool:
    """Whether a JPEG or HEIC photo has a depth map; nothing is decoded.

    Raises:
        ImageError: the file cannot be opened, or states a map that is not there; one line.
    """
    return _with_file(path, lambda file, kind: find_depth(file, kind) is not None)


def read_depth_map(path: str | Path) -> np.ndarray | None:
    """Read the depth map of a JPEG or HEIC photo.

    JPEG: GDepth, Dynamic Depth 1.0 and the container of Google, and the disparity or depth picture
    of Apple. HEIC: the auxiliary depth image.

    Args:
        path: the photo.

    Returns:
        Relative disparity (h, w), float32 in [0, 1], 1 is nearest, upright as the photo is shown;
        it may have another size than the photo. None if the photo has no map.

    Raises:
        ImageError: the file cannot be opened, or the map is damaged, too large, or of an unknown
            kind; one line.
    """
    return _with_file(path, _read)


def _with_file(path: str | Path, read: Callable[[BinaryIO, str], Kind]) -> Kind:
    """Call a reader with the open photo and the name of its format; every error is one line."""
    try:
        with open_regular(path) as file, quiet_decoders():
            kind = format_by_bytes(file.read(HEAD))
            return read(file, kind or "")
    except ImageError:
        raise
    except Exception as error:  # decoders raise any type for damaged bytes
        cause = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ImageError(
            f"{path}: its depth map cannot be read ({cause or type(error).__name__}); {_ADVICE}"
        ) from error


def _read(file: BinaryIO, kind: str) -> np.ndarray | None:
    stored = find_depth(file, kind)
    if stored is None:
        return None
    if stored.coded is None:
        values, stored = _decoded_heic(file, stored)
    else:
        values = _decoded(stored.coded, f"{file.name}: depth map")
    return _upright(_disparity(values, stored), stored)


def _decoded(coded: bytes, name: str) -> np.ndarray:
    """Values (h, w) in [0, 1] of a map that is a JPEG or PNG file."""
    file = io.BytesIO(coded)
    kind = format_by_bytes(coded[:HEAD])
    if kind not in ("JPEG", "PNG"):
        raise ValueError("it is neither a JPEG nor a PNG")
    header = read_header(file, kind)
    _check_size(header.width, header.height)
    check_header(name, header, len(coded), MAX_PIXELS, None)
    file.seek(0)
    if kind == "JPEG":
        source = read_jpeg(file)
        pixels = samples(JpegImagePlugin.JpegImageFile(source.open()), name)
        check_blocks(source, pixels)
    else:
        check_sums(file)
        pixels = samples(PngImagePlugin.PngImageFile(read_png(file)[0].open()), name)
        check_rows(file, pixels)
    return _normalised(pixels)


def _decoded_heic(file: BinaryIO, stored: StoredDepth) -> tuple[np.ndarray, StoredDepth]:
    """Values (h, w) in [0, 1] of the auxiliary image, and what they mean."""
    header, size = read_header(file, "HEIC"), file.seek(0, 2)
    check_header(file.name, header, size, header.width * header.height, None)
    file.seek(0)
    photo = load("HEIC").open_heif(file, convert_hdr_to_8bit=False)
    maps = photo.info.get("depth_images") or ()
    if not maps:
        raise ValueError("the decoder finds no depth image")
    width, height = maps[0].size
    _check_size(width, height)
    about = maps[0].info.get("metadata") or {}
    if about.get("representation_type") == _UNIFORM_DEPTH:
        near, far = (float(about.get(key) or "nan") for key in ("z_near", "z_far"))
        stored = replace(stored, meaning=LINEAR, near=near, far=far)
    pixels = np.asarray(maps[0])
    return _normalised(pixels[..., None] if pixels.ndim == 2 else pixels), stored


def _check_size(width: int, height: int) -> None:
    """Raise `ValueError` for a map that is too large; no option changes this limit."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} is more than {MAX_PIXELS >> 20} megapixels")


def _normalised(pixels: np.ndarray) -> np.ndarray:
    """The mean of the colours of integer samples (H, W, C), float32 (H, W) in [0, 1]."""
    colours = pixels[..., : 3 if pixels.shape[2] > 2 else 1]
    return colours.mean(axis=2, dtype=np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def _disparity(values: np.ndarray, stored: StoredDepth) -> np.ndarray:
    """Relative disparity in [0, 1] of stored values.

    With v for a value, n and f for the near and the far depth (Depthmap Metadata, Google):
    RangeInverse has depth f n / (f - v (f - n)), so disparity falls linearly in v. RangeLinear has
    depth n + v (f - n).
    """
    if stored.meaning == DISPARITY:
        return values
    if stored.meaning == INVERSE:
        return 1 - values
    near, far = stored.near, stored.far
    ratio = np.float32(near / far if 0 < near < far < math.inf else 0)
    if not 0 < ratio < 1:  # also where float32 cannot tell the depths apart
        raise ValueError(
            f"it states depths from {near:.12g} to {far:.12g}, expected 0 < near < far"
        )
    depth = ratio + values * (1 - ratio)  # relative to the far depth
    return (ratio / depth - ratio) / (1 - ratio)


def _upright(values: np.ndarray, stored: StoredDepth) -> np.ndarray:
    """Apply the orientation of the photo, unless only the map as it is has the upright shape."""
    width, height = stored.size
    is_stored = _has_shape(values, width, height)
    if stored.orientation >= 5 and not is_stored and _has_shape(values, height, width):
        return values
    upright = apply_orientation(values[..., None], stored.orientation)
    return np.ascontiguousarray(upright[..., 0])


def _has_shape(values: np.ndarray, width: int, height: int) -> bool:
    rows, columns = values.shape
    return abs(math.log(columns * height / (rows * width))) <= _SHAPE + 1 / min(rows, columns)
