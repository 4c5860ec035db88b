"""Decoded photos on disk, memory-mapped: a patch costs no decoding and workers share pages."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from refusion.errors import ConfigError, ImageError

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


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
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    )
    if not photos:
        kinds = ", ".join(sorted(PHOTO_SUFFIXES))
        raise ConfigError(f"{role}: folder '{folder}' holds no photos (looked for {kinds})")
    return photos


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [0, 1], a copy."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous().float() / 255


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of a photo as seen upright, read from its header alone.

    Raises:
        ImageError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.height, image.width) if is_turned else image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot read photo '{path}': {error}; replace or remove it") from error


class PhotoCache:
    """Folder of decoded 8-bit RGB photos, one .npy each.

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
            path: image file that Pillow can decode.
            max_side: longest side wanted; larger photos are shrunk, smaller ones kept.

        Returns:
            (H, W, 3) uint8.

        Raises:
            ImageError: the file is missing or cannot be decoded.
        """
        entry = self._entry(Path(path), max_side)
        if not entry.is_file():
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
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=self.folder, suffix=".part")
        except OSError as error:
            raise ConfigError(
                f"cache: cannot write to '{self.folder}': {error.strerror}; name another folder"
            ) from error
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, pixels)
            Path(aside).replace(entry)
        finally:
            Path(aside).unlink(missing_ok=True)


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(base) if base else Path.home() / ".cache"


def _decode(path: Path, max_side: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ImageError(f"photo '{path}' has mode {image.mode}, expected 8 bits a channel")
            photo = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot decode photo '{path}': {error}; replace or remove it") from error
    photo.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
    return np.asarray(photo)
