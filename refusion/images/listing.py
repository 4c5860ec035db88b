"""Image files of a folder, selected by the suffixes of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refusion.errors import ImageError

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""Format that is read from and written to a file, by the suffix of its name."""

IMAGE_SUFFIXES = tuple(FORMATS)


def list_images(path: str | Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, sorted; hidden files are left out.

    Args:
        path: a folder, whose files are selected by their suffix; a file is returned as it is.
        recursive: also search the sub-folders.

    Raises:
        ImageError: the path does not exist, or the folder contains no image.
    """
    path = Path(path)
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise ImageError(f"{path}: no such file or folder")
        found = [file for file in visible_files(path, recursive) if _is_image(file)]
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be listed ({cause})") from error
    if not found:
        raise ImageError(f"{path}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(found)


def visible_files(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the files and folders in a folder, except hidden ones and those in hidden folders."""
    for path in folder.glob("**/*" if recursive else "*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in FORMATS and file.is_file()
