"""Check a zip file against the rules of a track; the zip may be malicious.

Nothing is extracted to disk. Each file is read in memory, up to the number of bytes that a correct
output may have. An image is decoded only if the size in its header is the expected one.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from refusion.errors import ConfigError, ImageError, one_line, printable
from refusion.files import open_regular
from refusion.images.cache import list_photos, upright_size
from refusion.images.png_text import split_chunks
from refusion.memory import is_out_of_memory
from refusion.submission.tracks import README, Track

_README_BYTES = 1 << 16
_OVERHEAD = 1 << 20  # bytes of an image file in addition to its pixels
_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # Python unpacks other methods without a limit
_SURPLUS = 1000  # with more unexpected files than this, only their number is reported
_DIRECTORY_BYTES = 1000  # for each entry; a usual name needs 100
_NAME = 100  # characters of a name in a message
_SIZES = 8  # bytes per pixel; a badly compressed 8-bit RGBA image has fewer
_DECODERS = (
    "PNG",
    "JPEG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
)  # also formats that are not accepted, to name them
_DEPTH_AT = 24  # offset of the bit depth in a PNG's first chunk, IHDR


@dataclass(frozen=True)
class Expected:
    """Properties of the output for one input.

    Attributes:
        size: (width, height) in pixels.
        has_alpha: whether the input has an alpha channel.
    """

    size: tuple[int, int]
    has_alpha: bool


def expected_outputs(inputs: str | Path, track: Track) -> dict[str, Expected]:
    """The expected outputs, by file name, for all photos in a folder.

    Args:
        inputs: folder of the track's inputs; sub-folders are searched, but names must differ.
        track: one of `TRACKS`.

    Raises:
        ConfigError: the folder is missing or empty, or the output name of an input is not possible
            or that of another input.
        ImageError: an input cannot be read.
    """
    outputs: dict[str, Expected] = {}
    for path in list_photos([inputs], "--inputs"):
        name = track.output.format(stem=path.stem)
        if name in outputs:
            raise ConfigError(f"--inputs: two photos in '{inputs}' have the output name '{name}'")
        if not _is_name(name):
            raise ConfigError(
                f"--inputs: '{path}': an archive cannot have an output of this name; rename it"
            )
        width, height = upright_size(path)
        size = width * track.scale, height * track.scale
        outputs[name] = Expected(size, _has_alpha(path))
    return outputs


def check_submission(archive: str | Path, inputs: str | Path, track: Track) -> list[str]:
    """The faults of a zip; an empty list if a server should accept it.

    The checks: the zip and each file in it can be read completely; at its root it contains the
    output of every input and the readme, and nothing else; each output has the right name, format
    and size, and is 8-bit RGB (or follows the track's rule for alpha); the readme has all lines,
    and none contradicts the track's rules.

    Args:
        archive: the zip, from any source.
        inputs: folder of the track's inputs.
        track: one of `TRACKS`.

    Returns:
        One printable line for each fault.

    Raises:
        ConfigError: the inputs cannot be used.
    """
    expected = expected_outputs(inputs, track)
    try:
        with open_regular(archive) as raw:
            limited = _Limited(raw, _DIRECTORY_BYTES * (len(expected) + 1 + _SURPLUS))
            with zipfile.ZipFile(limited) as file:  # reads the whole directory
                limited.limit = None
                return list(_faults(file, expected, track))
    except FileNotFoundError:
        return ["there is no such file"]
    except Exception as error:  # a damaged directory raises exceptions of many types
        return [f"not a readable zip: {_message(error)}"]


class _Limited:
    """A file from which at most `limit` bytes are read at once; None for no limit."""

    def __init__(self, file: BinaryIO, limit: int | None) -> None:
        self._file, self.limit = file, limit

    def read(self, size: int = -1) -> bytes:
        if self.limit is None:
            return self._file.read(size)
        data = self._file.read(self.limit + 1 if size < 0 else min(size, self.limit + 1))
        if len(data) > self.limit:
            raise ValueError(f"its directory has more than {self.limit} bytes")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _faults(file: zipfile.ZipFile, expected: Mapping[str, Expected], track: Track) -> Iterator[str]:
    entries = file.infolist()
    if len(entries) > len(expected) + 1 + _SURPLUS:
        yield f"{len(entries)} entries, expected {len(expected) + 1}; none was checked"
        return
    counts = Counter(entry.filename for entry in entries)
    yield from (f"{_shown(name)}: {count} times" for name, count in counts.items() if count > 1)
    wanted = [*sorted(expected), README]
    yield from (f"{printable(name)}: missing" for name in wanted if name not in counts)
    for entry in entries:
        fault = _misplaced(entry, wanted)
        if fault:
            yield f"{_shown(entry.filename)}: {fault}"
        if fault or counts[entry.filename] > 1:  # the content of many copies would take long
            continue
        output = expected.get(entry.filename)
        limit = _README_BYTES if output is None else _limit(output)
        data, fault = _read(file, entry, limit)
        faults = [fault] if fault else _content(data, output, track)
        yield from (f"{printable(entry.filename)}: {fault}" for fault in faults)


def _is_name(name: str) -> bool:
    """Whether an output can have this name, on every system and in UTF-8."""
    is_text = not any("\ud800" <= character <= "\udfff" for character in name)
    return is_text and not name.startswith(".") and not set("/\\:") & set(name)


def _misplaced(entry: zipfile.ZipInfo, wanted: list[str]) -> str | None:
    """Why a file must not be in the archive; None if it may."""
    name = entry.filename
    if not _is_name(name):
        return "not allowed: all files must be at the root of the archive, without folders"
    if name not in wanted:
        return "not allowed: it is not the output of any input"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link, expected a file"
    if entry.compress_type not in _METHODS:
        return f"is compressed by method {entry.compress_type}, expected stored or deflated"
    return "is encrypted" if entry.flag_bits & 1 else None


def _limit(output: Expected) -> int:
    return output.size[0] * output.size[1] * _SIZES + _OVERHEAD


def _read(file: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> tuple[bytes, str | None]:
    """Content of a file in the archive, and why it cannot be read; None if it can."""
    try:
        with file.open(entry) as stream:
            data = stream.read(limit + 1)  # the size in the directory may be wrong
    except Exception as error:  # a damaged stream raises exceptions of many types
        return b"", f"cannot be unpacked: {_message(error)}"
    return data, f"unpacks to more than {limit} bytes" if len(data) > limit else None


def _content(data: bytes, output: Expected | None, track: Track) -> list[str]:
    return list(
        _readme_faults(data, track) if output is None else _image_faults(data, output, track)
    )


def _image_faults(data: bytes, output: Expected, track: Track) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of large images; the next lines check the size
            image = open_image(io.BytesIO(data))
            if image.format != track.format:
                yield f"is {image.format}, expected {track.format}"
                return
            if image.size != output.size:
                yield "is {}x{}, expected {}x{}".format(*image.size, *output.size)
                return
            if image.format == "PNG" and not _begins_as_png(data):
                yield "cannot be decoded: expected one chunk IHDR, before all others"
                return
            image.load()
            open_image(io.BytesIO(data)).verify()  # checksums, and the end of the file
    except Exception as error:  # decoders raise exceptions of many types
        yield f"cannot be decoded: {_message(error)}"
        return
    may_be_rgba = track.may_have_alpha and output.has_alpha
    is_rgb = image.mode == "RGB" and "transparency" not in image.info
    if not is_rgb and not (image.mode == "RGBA" and may_be_rgba):
        transparent = " with a transparent colour" if "transparency" in image.info else ""
        yield f"is {image.mode}{transparent}, expected RGB"
    elif image.format == "PNG" and data[_DEPTH_AT] != 8:  # Pillow reads 16 bits per sample as 8
        yield f"has {data[_DEPTH_AT]} bits per sample, expected 8"
    elif not is_rgb and image.getchannel("A").getextrema() != (255, 255):
        yield "has an alpha channel that is not opaque"


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image as Pillow does, but without its limit of the size, which the caller checks.

    Args:
        file: open for reading, at its begin.

    Raises:
        Exception: it is no image, or its header is damaged; decoders raise many types.
    """
    Image.init()
    head = file.read(16)
    for name in _DECODERS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(head):
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                raise UnidentifiedImageError from error
    raise UnidentifiedImageError


def _begins_as_png(data: bytes) -> bool:
    """Whether the chunk IHDR is the first one and the only one of its kind."""
    kinds = (kind for kind, _ in split_chunks(data[8:]))
    return next(kinds, None) == b"IHDR" and b"IHDR" not in kinds


def _readme_faults(data: bytes, track: Track) -> Iterator[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield "is not UTF-8"
        return
    given = [line.partition(":") for line in text.splitlines() if line.strip()]
    found = [key.strip() for key, _, _ in given]
    values = {key.strip(): value.strip() for key, _, value in given}
    wanted = [line.key for line in track.readme]
    if found != wanted:
        yield f"expected the lines {', '.join(wanted)}, each as 'KEY : VALUE', in this order"
        return
    for line in track.readme:
        value = values[line.key]
        if not line.accepts(value):
            yield f"'{line.key}': expected a {line.kind}, got {value[:40]!a}"
        elif line.fact == "extra_data" and value == "1" and not track.extra_data:
            yield f"'{line.key}': the track allows no extra data"


def _has_alpha(path: Path) -> bool:
    if path.suffix.lower() not in (".png", ".webp"):
        return False
    try:
        with open_regular(path) as file, open_image(file) as image:
            return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    except Exception as error:  # decoders raise exceptions of many types
        raise ImageError(f"{path}: {_message(error)}; replace or remove it") from error


def _shown(name: str) -> str:
    """The name of a file in the archive, in quotes and with escapes."""
    return printable(ascii(name), _NAME)


def _message(error: Exception) -> str:
    """Message of an exception as one printable line.

    Raises:
        MemoryError: the machine and not the file is at fault.
    """
    if is_out_of_memory(error):
        raise MemoryError from error
    if isinstance(error, UnidentifiedImageError):  # its text is the address of an object
        return "not an image"
    text = getattr(error, "strerror", None) or error
    return one_line(text, 120) or type(error).__name__
