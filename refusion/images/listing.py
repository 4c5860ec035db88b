"""Image files of a folder, selected by the suffixes of their names; everything else is counted."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refusion.errors import ImageError
from refusion.files import open_regular
from refusion.images.packages import missing_package
from refusion.images.unsupported import hint, kind_by_bytes, kind_by_name

_JPEG_SUFFIXES = ".jpg .jpeg .jpe .jfif .jif .jfi .jps .mpo .pjpeg .pjp"
_RAW_SUFFIXES = (
    ".cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .ori .rw2 .rwl .raw .dng .pef .srw .x3f .3fr"
    " .fff .iiq .cap .mef .mos .mrw .dcr .kdc .erf .gpr"
)
FORMATS = dict.fromkeys(_JPEG_SUFFIXES.split(), "JPEG") | {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".jxl": "JXL",
}
"""Format that is read from and written to a file, by the suffix of its name."""

READ_ONLY = dict.fromkeys((".heic", ".heif", ".hif"), "HEIC")
READ_ONLY |= dict.fromkeys(_RAW_SUFFIXES.split(), "RAW")
"""Format that is only read from a file, by the suffix of its name."""

RESULTS = {"HEIC": ".jpg", "RAW": ".tif"}
"""Suffix of the results of photos in a format that is only read."""

IMAGE_SUFFIXES = (*FORMATS, *READ_ONLY)
USUAL_SUFFIXES = ".jpg, .jpeg, .png, .tif, .tiff, .webp, .avif, .jxl"
"""The suffixes of results that messages name."""
READ = "JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG XL or camera raw"
"""Names of the formats that are read, for messages."""

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL ": "JXL",
}
# Other raw files start like any TIFF; `raw_read.is_raw` detects them by their tags.
_RAW = re.compile(
    rb"....ftypcrx|II\*\0....CR|II\x1a\0..HEAPCCDR|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM",
    re.DOTALL,
)
# First three bytes of the brands of HEIF files. Files of both formats may begin with a common one.
_AVIF, _HEIC, _COMMON = (b"avi",), (b"hei", b"hev"), (b"mif", b"msf", b"mia")
HEAD = 64
"""Bytes at the begin of a file that tell its format."""
_LINKED_FOLDER = "linked folder, which is not searched; give it as an input of its own"


@dataclass(frozen=True)
class Listing:
    """What a folder contains.

    Attributes:
        images: the image files, sorted.
        left_out: number of files and folders that are left out, by the reason.
    """

    images: tuple[Path, ...]
    left_out: dict[str, int]


def format_by_bytes(head: bytes) -> str | None:
    """Format of a file, as in `FORMATS` and `READ_ONLY`, by its first 64 bytes; None for others.

    Many raw files begin as a TIFF, and are "TIFF" here.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if _RAW.match(head):
        return "RAW"
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    return _heif(head) if kind is None and head[4:8] == b"ftyp" else kind


def _heif(head: bytes) -> str | None:
    """Format of a HEIF file by its brands: the major one, then the compatible ones."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    major, *compatible = (head[at : at + 3] for at in (8, *range(16, end, 4)))
    brands = compatible if major in _COMMON else [major]
    if any(brand in _HEIC for brand in brands):
        return "HEIC"
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    return "HEIC" if major in _COMMON else None


def format_by_suffix(suffix: str) -> str | None:
    """Format of a file, as in `FORMATS` and `READ_ONLY`, by the suffix of its name."""
    return FORMATS.get(suffix.lower()) or READ_ONLY.get(suffix.lower())


def list_images(path: str | Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, sorted; hidden files are left out.

    Args:
        path: a folder, whose files are selected by their suffix; a file is returned as it is.
        recursive: also search the sub-folders; linked folders are not searched.

    Raises:
        ImageError: the path does not exist, or the folder contains no image.
    """
    path = Path(path)
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise ImageError(f"{path}: no such file or folder")
        found = scan_folder(path, recursive=recursive).images
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be listed ({cause})") from error
    if not found:
        raise ImageError(f"{path}: no images in it ({READ})")
    return list(found)


def scan_folder(
    folder: Path,
    *,
    recursive: bool,
    searching: Callable[[Path, int, int], None] | None = None,
) -> Listing:
    """Find the image files of a folder, and count what looks like an image but is left out.

    Hidden files and hidden folders are ignored.

    Args:
        folder: the folder, or a link to it.
        recursive: also search the sub-folders.
        searching: called for every file as `(folder, folders, images)`, with the numbers of folders
            and images found so far.

    Raises:
        OSError: the folder cannot be listed.
    """
    images, left_out = [], Counter()
    folders = [folder]
    for place in folders:
        try:
            entries = sorted(_visible(place), key=lambda entry: entry.name)
        except OSError as error:
            if place == folder:
                raise
            left_out[f"folder that cannot be listed ({error.strerror})"] += 1
            continue
        for entry in entries:
            if searching is not None:
                searching(folder, len(folders), len(images))
            path = place / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders += [path] * recursive
                continue
            reason = _reason(entry, path)
            if reason is None:
                images.append(path)
            elif reason != _LINKED_FOLDER or recursive:
                left_out[reason] += bool(reason)
    return Listing(
        tuple(sorted(images)), {reason: count for reason, count in left_out.items() if count}
    )


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _reason(entry: os.DirEntry[str], path: Path) -> str | None:
    """Why a file is left out; None for an image, and nothing for a file of another kind."""
    suffix = path.suffix.lower()
    kind, is_image = kind_by_name(path), suffix in IMAGE_SUFFIXES
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        is_broken = error.errno in (errno.ENOENT, errno.ELOOP)  # a link, also one to itself
        reason = "broken link" if is_broken else f"cannot be read ({error.strerror})"
        return reason if is_image or kind is not None else ""
    if stat.S_ISDIR(mode):
        return _LINKED_FOLDER
    if not stat.S_ISREG(mode):
        return "not a regular file" if is_image else ""
    if is_image:
        return missing_package(format_by_suffix(suffix))
    return hint(kind) if kind is not None else _reason_by_bytes(path)


def _reason_by_bytes(path: Path) -> str:
    """Why an image with another suffix, or with none, is left out; nothing for other files."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    kind = format_by_bytes(head)
    if kind is not None:
        known = FORMATS | READ_ONLY
        suffix = next(suffix for suffix, name in known.items() if name == kind)
        return f"{kind} without the suffix of an image; rename it to NAME{suffix}"
    other = kind_by_bytes(head)
    return "" if other is None else hint(other)
