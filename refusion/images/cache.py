"""Cache of decoded photos on disk, read through memory maps.

A training patch is read without decoding its photo, and all loader processes share the memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

from refusion.errors import ConfigError, ImageError
from refusion.files import atomic_write, check_regular, open_regular
from refusion.images import heif_boxes, jxl_header
from refusion.images.exif import ORIENTATION, exif_orientation
from refusion.images.header import detect_format, read_header
from refusion.images.heif_boxes import orientation_of
from refusion.images.io import read_image
from refusion.images.listing import IMAGE_SUFFIXES, READ, format_by_suffix
from refusion.images.metadata import checked
from refusion.images.packages import missing_package
from refusion.images.photo import Photo
from refusion.images.png_read import read_png
from refusion.images.raw_read import raw_size
from refusion.images.samples import to_float
from refusion.images.tiff_tags import read_tags
from refusion.images.webp_read import read_webp

logger = logging.getLogger(__name__)

_NPY_HEADER = 128  # bytes of the header of a .npy file with three dimensions
FULL_SIDE = 1 << 16  # a `max_side` larger than any photo: the photo keeps its size


def list_photos(folders: Sequence[str | Path], role: str = "folders") -> list[Path]:
    """List all photos in folders, sorted by path; hidden files are left out.

    So are photos in a format whose package is not installed, see `images.packages`.

    Args:
        folders: folders, searched recursively; linked folders inside are not searched, and logged.
        role: name of the argument, for the error message.

    Raises:
        ConfigError: no folder is given, or a folder does not exist or contains no photo, or a name
            of a photo belongs to a pipe, a device or a broken link.
    """
    if isinstance(folders, (str, Path)) or not folders:
        raise ConfigError(f"{role}: expected a list of folders with photos, got {folders!r}")
    return [photo for folder in folders for photo in _photos_below(Path(folder), role)]


def _photos_below(folder: Path, role: str) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{role}: expected a folder, got the file '{folder}'")
    if not folder.is_dir():
        raise ConfigError(f"{role}: folder '{folder}' does not exist; create it or fix the path")
    photos = sorted(path for path in folder.rglob("*") if _is_photo(path, role))
    if not photos:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise ConfigError(f"{role}: folder '{folder}' contains no photos (looked for {kinds})")
    return photos


def _is_photo(path: Path, role: str) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_symlink() and path.is_dir():
        logger.warning("%s: linked folder '%s' is not searched; list it, too", role, path)
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.is_dir():
        return False
    if missing_package(format_by_suffix(path.suffix)) is not None:
        return False
    try:
        check_regular(path)
    except OSError as error:
        raise ConfigError(f"{role}: '{path}': {error.strerror}; replace or remove it") from error
    return True


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Copy (H, W, 3) uint8 or uint16 to (3, H, W) float32 in [0, 1], as k / 255 or k / 65535."""
    full = np.iinfo(pixels.dtype).max
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    return torch.from_numpy(planes.astype(np.float32)).div_(full)


def apply_pillow(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply a Pillow operation to 8-bit or 16-bit pixels.

    Pillow has no 16-bit colour mode, so each 16-bit plane is processed separately as float.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        change: the operation; its argument has mode "RGB", or "F" for one 16-bit plane.

    Returns:
        (h, w, 3) of the same dtype.
    """
    if pixels.dtype == np.uint8:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(pixels))))
    planes = [change(Image.fromarray(plane)) for plane in np.moveaxis(pixels.astype("f4"), 2, 0)]
    return np.stack(planes, axis=2).clip(0, 65535).round().astype(np.uint16)


def upright_size(path: Path) -> tuple[int, int]:
    """Read (width, height) of a photo from its file header, after EXIF orientation.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        (width, height), orientation = _header(path)
    except Exception as error:  # decoders raise any type for damaged bytes
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read photo '{path}': {cause}; replace or remove it") from error
    return (height, width) if orientation >= 5 else (width, height)


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Stored (width, height) and EXIF orientation 1..8, which is 1 if it is not valid."""
    with open_regular(path) as file:
        kind = detect_format(file)
        if kind is None:
            raise ValueError(f"not an image, expected {READ}")
        header = read_header(file, kind)
        try:
            orientation = _orientation(file, kind)
        except Exception:  # Pillow and the readers of metadata raise any type for damaged blocks
            orientation = 1
    return (header.width, header.height), orientation


def _orientation(file: BinaryIO, kind: str) -> int:
    file.seek(0)
    if kind in ("AVIF", "HEIC"):
        return orientation_of(heif_boxes.read_boxes(file).primary)
    if kind == "JXL":
        return jxl_header.parse_header(jxl_header.read_boxes(file)[0]).orientation
    if kind == "RAW":
        return raw_size(file)[2]
    if kind == "TIFF":
        return read_tags(file).integer(ORIENTATION, 1, 8, default=1)
    if kind == "JPEG":  # Pillow reads the segments before the pixels only
        exif = JpegImagePlugin.JpegImageFile(file).info.get("exif", b"")
        photo = Photo(torch.empty(0), exif=exif.removeprefix(b"Exif\0\0") or None)
    else:
        photo = (read_png(file)[0] if kind == "PNG" else read_webp(file)).photo
    photo, _ = checked(photo)
    return 1 if photo.exif is None else exif_orientation(photo.exif)


class PhotoCache:
    """Folder of decoded RGB photos, one .npy file per photo and size.

    16-bit and float photos are stored with 16 bits per channel, all others with 8. Each photo is
    decoded once, its EXIF orientation is applied, and it is shrunk to `max_side` if it is larger.
    The file name is a hash of the path, modification time, file size and longest sides, so a
    changed photo gets a new file. Files are written under a temporary name and then renamed, so
    several processes may share a folder.

    Args:
        folder: the cache folder; None for `refusion/photos` in the user's cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else _user_cache() / "refusion" / "photos"

    def load(self, path: str | Path, max_side: int) -> np.ndarray:
        """Return the photo as a read-only memory map; decode it first if it is not in the cache.

        Args:
            path: an image file that `read_image` supports; alpha is dropped.
            max_side: longest side in pixels; larger photos are shrunk to it.

        Returns:
            (H, W, 3) uint8 or uint16; only the slices that are used are read from disk.

        Raises:
            ImageError: the file is missing or cannot be decoded.
            ConfigError: the cache folder cannot be written.
        """
        entry = self._entry(Path(path), str(max_side))
        return self._mapped(entry, lambda: _decode(Path(path), max_side))

    def load_level(self, path: str | Path, side: int, max_side: int) -> np.ndarray:
        """Return a smaller copy of `load(path, max_side)`, as one level of an image pyramid.

        It is made from the cached photo, which is not decoded again.

        Args:
            path: an image file that `read_image` supports.
            side: longest side of the copy in pixels, at most `max_side`.
            max_side: longest side of the cached photo.

        Returns:
            As `load`.

        Raises:
            ImageError: the file is missing or cannot be decoded.
            ConfigError: the cache folder cannot be written.
        """
        shrink = functools.partial(_shrink, max_side=side)
        entry = self._entry(Path(path), f"{max_side}>{side}")
        return self._mapped(entry, lambda: apply_pillow(self.load(path, max_side), shrink))

    def _mapped(self, entry: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Memory map of an entry, which is made first if it is missing."""
        with contextlib.suppress(OSError, ValueError, EOFError):  # no such entry, or a damaged one
            return _open_map(entry)
        self._store(make(), entry)
        return _open_map(entry)

    def _entry(self, path: Path, kind: str) -> Path:
        try:
            status = path.stat()
        except OSError as error:
            raise ImageError(f"cannot read photo '{path}': {error.strerror}") from error
        key = f"{_resolved(path.absolute())}|{status.st_mtime_ns}|{status.st_size}|{kind}"
        return self.folder / f"{hashlib.sha1(os.fsencode(key)).hexdigest()}.npy"

    def _store(self, pixels: np.ndarray, entry: Path) -> None:
        try:
            with atomic_write(entry) as temporary, temporary.open("wb") as file:
                np.save(file, pixels)
        except OSError as error:
            raise ConfigError(
                f"cache: cannot write to '{self.folder}': {error.strerror or error}; free disk "
                "space, or set another folder"
            ) from error


@functools.lru_cache(maxsize=1 << 16)
def _resolved(path: Path) -> Path:
    """The path without links, which is not looked up again for each sample."""
    return path.resolve()


def _open_map(entry: Path) -> np.ndarray:
    """Memory map of a .npy file, as `np.load(entry, mmap_mode="r")` in a third of the time.

    Raises:
        OSError: there is no such file, or it is not a regular one.
        ValueError: the file is damaged.
    """
    with open_regular(entry) as file:
        dtype, shape, offset = _npy_header(file.read(_NPY_HEADER))
        return np.memmap(file, dtype, "r", offset, shape)


@functools.lru_cache(maxsize=1024)
def _npy_header(head: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Type, shape and start of the pixels of a .npy file from its first bytes."""
    file = io.BytesIO(head)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("expected version 1.0 of the .npy format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran or dtype not in (np.uint8, np.uint16) or len(shape) != 3:
        raise ValueError(f"expected (H, W, 3) uint8 or uint16, got {shape} {dtype}")
    return dtype, shape, file.tell()


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(base) if base else Path.home() / ".cache"


def _decode(path: Path, max_side: int) -> np.ndarray:
    photo = read_image(path)
    full, kind = (255, np.uint8) if photo.bit_depth == 8 else (65535, np.uint16)
    pixels = np.empty((*photo.samples.shape[1:], 3), kind)
    for channel, plane in enumerate(photo.samples):  # one channel at a time, to save memory
        pixels[..., channel] = (to_float(plane) * full).round().numpy()
    return apply_pillow(pixels, functools.partial(_shrink, max_side=max_side))


def _shrink(image: Image.Image, max_side: int) -> Image.Image:
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
    return image
