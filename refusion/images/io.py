"""Reading and writing of photo files.

If an 8-bit or 16-bit file is read and written in a lossless format, every sample is preserved. Bit
depth, gray mode, alpha, ICC profile, EXIF, XMP, resolution and JPEG quality are kept in the output.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from refusion.arguments import is_between
from refusion.errors import ImageError, short
from refusion.files import as_path, atomic_write, check_replaceable, open_regular
from refusion.images.decode import decode_pillow
from refusion.images.decoder_warnings import quiet_decoders
from refusion.images.encode import check_side, encode
from refusion.images.header import check_header, check_length, detect_format, read_header
from refusion.images.heif_read import decode_heif
from refusion.images.jxl_read import decode_jxl
from refusion.images.listing import FORMATS, READ, USUAL_SUFFIXES
from refusion.images.packages import missing_package
from refusion.images.photo import Photo
from refusion.images.raw_read import decode_raw
from refusion.images.tiff_decode import decode_tiff
from refusion.images.unsupported import hint, kind_by_bytes

if TYPE_CHECKING:  # photos as arrays do not need torch
    from torch import Tensor

MAX_PIXELS = 400_000_000
_DTYPES = ("uint8", "uint16", "bfloat16", "float16", "float32", "float64")  # that are written


def read_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_memory: int | None = None
) -> Photo:
    """Read a photo file; the format is detected from the content.

    JPEG, PNG, TIFF, WebP, AVIF and JPEG XL; HEIC and camera raw with the packages of
    `pip install 'refusion[photo]'`. docs/formats.md says what is kept of each.

    For an animation or a file with several pages, the first is used and a warning is logged. CMYK
    is converted to sRGB through its profile, a palette to RGB or RGBA, one bit to gray. Other
    colours are not converted between colour spaces; the ICC profile is kept. Camera raw is
    developed to Rec. 2020, 16 bits.

    Args:
        path: the file.
        max_pixels: largest width times height, checked before decoding. (Pillow has its own limit
            of 179 megapixels for WebP.)
        max_memory: largest number of bytes that decoding may need at its peak, estimated from the
            header before decoding; None for no limit.

    Raises:
        ImageError: the file cannot be read, or it is too large; the message is one line with the
            path and the cause.
    """
    import torch

    photo = read_arrays(path, max_pixels=max_pixels, max_memory=max_memory)
    alpha = None if photo.alpha is None else torch.from_numpy(photo.alpha)
    return replace(photo, samples=torch.from_numpy(photo.samples), alpha=alpha)


def read_arrays(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_memory: int | None = None
) -> Photo:
    """`read_image` with samples and alpha as NumPy arrays; it does not import torch.

    Args:
        path: see `read_image`.
        max_pixels: see `read_image`.
        max_memory: see `read_image`.

    Raises:
        ImageError: see `read_image`.
    """
    path = as_path(path, "read_image: expected an image file", ImageError)
    for name, limit in (("max_pixels", max_pixels), ("max_memory", max_memory)):
        is_none = limit is None and name == "max_memory"
        if not is_none and not is_between(limit, -math.inf, math.inf):
            raise ImageError(f"{name}: expected a number, got {short(limit)}")
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ImageError(f"{path}: is a folder, expected an image file") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read it") from error
    except (OSError, ValueError) as error:  # a pipe, a loop of links, a name that is too long
        raise ImageError(f"{path}: cannot be read ({_one_line(error)})") from error
    try:
        with file, quiet_decoders():
            return _decode(file, max_pixels, max_memory)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise any type for damaged bytes
        raise ImageError(f"{path}: damaged or not supported ({_one_line(error)})") from error


def write_image(path: str | Path, image: Tensor | np.ndarray, like: Photo | None = None) -> None:
    """Write an image to a file with the properties of the photo ``like``.

    The file is written under a temporary name and then renamed, so an interrupted call leaves the
    old file unchanged.

    Args:
        path: its suffix selects the format; without a suffix, the format of ``like`` is used.
        image: float (3, H, W), a tensor on any device or an array; values are clamped to [0, 1] and
            rounded to nearest. Or uint8 or uint16 over their full range, as `Photo.samples`.
        like: photo whose bit depth (if the format supports it), gray mode, alpha, metadata and
            compression are used. None writes 8-bit RGB: JPEG with quality 95, else lossless.

    Raises:
        ImageError: the shape is wrong, a value is not finite, or the file cannot be written.
    """
    path = as_path(path, "write_image: expected a file to write", ImageError)
    if not isinstance(like, Photo | None):
        raise ImageError(f"like: expected a photo of read_image or None, got {short(like)}")
    kind = _format_to_write(path, like)
    if not hasattr(image, "dtype"):  # neither an array nor a tensor; torch may not be imported
        raise ImageError(
            f"{path}: expected a tensor or an array (3, H, W) to write, got {short(image)}"
        )
    is_known = str(image.dtype).removeprefix("torch.") in _DTYPES
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape or not is_known:
        got = f"{image.dtype} {tuple(image.shape)}"
        raise ImageError(f"{path}: expected a float image of shape (3, H, W) to write, got {got}")
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, expected the name of a file to write")
        if not path.parent.is_dir():
            raise ImageError(f"{path}: its folder does not exist")
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            encode(file, kind, image, like or Photo(image), str(path))
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError(f"{path}: cannot be written ({_one_line(error)})") from error


def check_place(path: Path, like: Photo | None, width: int, height: int) -> None:
    """Create the folder of an output image, and raise the errors that `write_image` would raise.

    A caller runs this check before a long computation.

    Args:
        path: path of the output image; without a suffix, the format of ``like`` is used.
        like: the photo that will be given to `write_image`; needed if `path` has no suffix.
        width: width of the output image in pixels.
        height: height of the output image in pixels.

    Raises:
        ImageError: the suffix is unknown, the image is too large for the format, or the folder
            cannot be created or written.
    """
    check_side(str(path), _format_to_write(path, like), width, height)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path}: its folder cannot be created ({_one_line(error)})") from error
    if not os.access(path.parent, os.W_OK):
        raise ImageError(f"{path}: no permission to write to its folder")
    try:
        check_replaceable(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({_one_line(error)})") from error


def _decode(file: BinaryIO, max_pixels: int, max_memory: int | None) -> Photo:
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    if not head:
        raise ImageError(f"{file.name}: empty file")
    other = kind_by_bytes(head)
    if other is not None:
        raise ImageError(f"{file.name}: {hint(other)}")
    kind = detect_format(file)
    if kind is None:
        raise ImageError(f"{file.name}: not an image, expected {READ}")
    missing = missing_package(kind)
    if missing is not None:
        raise ImageError(f"{file.name}: {missing}")
    check_length(file.name, kind, size, max_memory)
    header = read_header(file, kind)
    check_header(file.name, header, size, max_pixels, max_memory)
    file.seek(0)
    size = header.width, header.height
    if kind in ("AVIF", "HEIC"):
        return decode_heif(file, kind, size)
    if kind == "JXL":
        return decode_jxl(file, size)
    if kind in ("TIFF", "RAW"):
        return decode_tiff(file) if kind == "TIFF" else decode_raw(file)
    return decode_pillow(file, kind, size)


def _format_to_write(path: Path, like: Photo | None) -> str:
    is_named = bool(path.suffix) or like is None
    kind = FORMATS.get(path.suffix.lower()) if is_named else like.format
    if kind is None:
        raise ImageError(f"{path}: expected a name that ends in {USUAL_SUFFIXES}")
    missing = missing_package(kind)
    if missing is not None:
        raise ImageError(f"{path}: {missing}")
    return kind


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
