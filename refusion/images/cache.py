"""Decoded photos on disk, memory-mapped: a patch costs no decoding and workers share pages."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import ExifTags, Image
from torch import Tensor

from refusion.errors import ConfigError, ImageError
from refusion.files import atomic_write
from refusion.images.io import IMAGE_SUFFIXES, read_image
from refusion.images.samples import to_float

FULL_SIDE = 1 << 16  # as `max_side`: larger than any photo, keeps it at its own size


def list_photos(folders: Sequence[str | Path], role: str = "folders") -> list[Path]:
    """All photos below the folders, sorted by path, hidden files left out.

    Args:
        folders: folders, searched recursively.
        role: what the error calls the argument.

    Raises:
        ConfigError: no folder given, one missing, or one without photos.
    """
    if isinstance(folders, (str, Path)) or not folders:
        raise ConfigError(f"{role}: expected a list of folders with photos, got {folders!r}")
    return [photo for folder in folders for photo in _photos_below(Path(folder), role)]


def _photos_below(folder: Path, role: str) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{role}: folder '{folder}' does not exist; create it or mend the path")
    photos = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not photos:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise ConfigError(f"{role}: folder '{folder}' holds no photos (looked for {kinds})")
    return photos


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 or uint16 to (3, H, W) float32 in [0, 1], k/255 or k/65535, a copy."""
    full = np.iinfo(pixels.dtype).max
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).contiguous() / full


def through_pillow(pixels: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Scale pixels with Pillow, which has no 16-bit colour: those go plane by plane as floats.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        change: applied to the image, RGB or one plane of float.

    Returns:
        (h, w, 3) of the same type.
    """
    if pixels.dtype == np.uint8:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(pixels))))
    planes = [change(Image.fromarray(plane)) for plane in np.moveaxis(pixels.astype("f4"), 2, 0)]
    return np.stack(planes, axis=2).clip(0, 65535).round().astype(np.uint16)


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of a photo as seen upright, read from its header alone.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        (width, height), orientation = _header(path)
    except Exception as error:  # decoders meet damaged bytes with any type of exception
        raise ImageError(f"cannot read photo '{path}': {error}; replace or remove it") from error
    return (height, width) if orientation >= 5 else (width, height)


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Size as stored and EXIF orientation."""
    if path.suffix.lower() in (".tif", ".tiff"):  # Pillow does not open all of 16 bits and float
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            turned = page.tags.valueof(ExifTags.Base.Orientation, default=1)
            return (page.imagewidth, page.imagelength), turned
    with Image.open(path) as image:
        return image.size, image.getexif().get(ExifTags.Base.Orientation, 1)


class PhotoCache:
    """Folder of decoded RGB photos, one .npy each: 16-bit and float files with 16 bits, others 8.

    A photo is decoded once, turned upright by its EXIF orientation, shrunk to `max_side` if larger,
    and stored under a name made of its path, time, size and `max_side`: a changed photo gets
    a new entry. Entries are written aside and renamed, so several processes may share a folder.

    Args:
        folder: where the entries go; None means `refusion/photos` in the user's cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else _user_cache() / "refusion" / "photos"

    def load(self, path: str | Path, max_side: int) -> np.ndarray:
        """The photo as a read-only memory map.

        Args:
            path: image file, of any kind that `read_image` reads; alpha is dropped.
            max_side: longest side wanted; larger photos are shrunk, smaller ones kept.

        Returns:
            (H, W, 3) uint8 or uint16; slicing it reads the slice alone from the disk.

        Raises:
            ImageError: the file is missing or cannot be decoded.
        """
        entry = self._entry(Path(path), max_side)
        with contextlib.suppress(OSError, ValueError, EOFError):  # missing, or damaged
            return np.load(entry, mmap_mode="r")
        self._store(_decode(Path(path), max_side), entry)
        return np.load(entry, mmap_mode="r")

    def _entry(self, path: Path, max_side: int) -> Path:
        try:
            status = path.stat()
        except OSError as error:
            raise ImageError(f"cannot read photo '{path}': {error.strerror}") from error
        key = f"{path.resolve()}|{status.st_mtime_ns}|{status.st_size}|{max_side}"
        return self.folder / f"{hashlib.sha1(os.fsencode(key)).hexdigest()}.npy"

    def _store(self, pixels: np.ndarray, entry: Path) -> None:
        try:
            with atomic_write(entry) as aside, aside.open("wb") as file:
                np.save(file, pixels)
        except OSError as error:
            raise ConfigError(
                f"cache: cannot write to '{self.folder}': {error.strerror}; make room, or name "
                "another folder"
            ) from error


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(base) if base else Path.home() / ".cache"


def _decode(path: Path, max_side: int) -> np.ndarray:
    photo = read_image(path)
    full, kind = (255, np.uint8) if photo.bit_depth == 8 else (65535, np.uint16)
    pixels = np.empty((*photo.samples.shape[1:], 3), kind)
    for channel, plane in enumerate(photo.samples):  # one at a time: photos may be large
        pixels[..., channel] = (to_float(plane) * full).round().numpy()
    return through_pillow(pixels, functools.partial(_shrink, max_side=max_side))


def _shrink(image: Image.Image, max_side: int) -> Image.Image:
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
    return image
