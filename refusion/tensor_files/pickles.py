"""Reading of files of `torch.save` (.pth, .pt, .ckpt) from unknown sources."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch

from refusion.errors import CheckpointError, one_line, printable
from refusion.files import open_regular
from refusion.memory import is_out_of_memory
from refusion.tensor_files.outline import MAX_BYTES, Outline, UnsafeError, read_outline

MAX_FILE = 10 * 10**9
"""Bytes of a published file; a Stable Diffusion with two copies of its weights has 7.7 * 10^9."""
_SMALL = 64 * 2**20  # bytes that compressed entries may always have
_RATIO = 4  # largest ratio of the contents of an archive and its size; that of weights is 1.1
_LONGEST_ENCODED = 1000  # characters; some encodings take quadratic time
_MOST_ENTRIES = 100_000
# The end of a zip archive: its last record, and with 64-bit sizes two records before it.
_END, _LOCATOR, _END_64 = map(struct.Struct, ("<4s4HLLH", "<4sLQL", "<4sQ2H2L4Q"))
_MARK, _MARK_LOCATOR, _MARK_64 = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OLD_PARTS = 5  # pickles at the start of an old file: the fourth is the object, the fifth the keys
_SIZES = {
    **{"DoubleStorage": 8, "LongStorage": 8, "FloatStorage": 4, "IntStorage": 4},
    **{"HalfStorage": 2, "BFloat16Storage": 2, "ShortStorage": 2},
    **{"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16},
}
_SCALAR = "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"
_OBJECTS = (
    "holds Python objects besides tensors, refused because reading them could run code; "
    "if you trust the file, save it again with torch.save(network.state_dict(), ...)"
)


def is_pickle(start: bytes) -> bool:
    """Whether a file with these first bytes may have been written by `torch.save`."""
    return start.startswith((_ZIP, _PICKLE))


def load_pickle(
    path: str | Path, device: str | torch.device = "cpu", largest: int = MAX_FILE
) -> Any:
    """Read a file that `torch.save` has written from tensors and plain values.

    Before any tensor is read, the directory of the archive and the instructions of the pickle are
    compared with the size of the file. No code from the file is run. Numbers of NumPy are read.

    Args:
        path: the file; it need not be trusted.
        device: device of the tensors.
        largest: bytes of the largest file to read, and of its contents.

    Returns:
        The saved object. Its tensors can be views of little data with any size.

    Raises:
        CheckpointError: the file does not exist, is damaged, holds other objects, or would need
            more memory than a file of its size.
    """
    path = Path(path)
    try:
        _check(path, largest)
        with _numpy_numbers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of old formats
            return torch.load(path, map_location=device, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can raise any error in the reader
        if is_out_of_memory(error):
            raise
        _fail(path, _reason(error))


def _reason(error: Exception) -> str:
    """Why a file cannot be read, from the error of a reader."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "no such weights file"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or one_line(error, 100)}"
    if isinstance(error, UnsafeError):
        return f"is refused: {error}, which no file of weights needs"
    if isinstance(error, pickle.UnpicklingError) and ("nsupported" in text or "Weights" in text):
        return _OBJECTS
    kind = "damaged" if isinstance(error, pickle.UnpicklingError) else "damaged or truncated"
    return f"is {kind} ({_first_line(error)}); download or copy it again"


def _check(path: Path, largest: int) -> None:
    """Compare what reading the file would need with its size."""
    with open_regular(path) as file:
        start, size = file.read(4), file.seek(0, io.SEEK_END)
        file.seek(0)
        if size > largest:
            _fail(path, f"is {size} bytes long, expected a file of weights of at most {largest}")
        if not is_pickle(start):
            _fail(path, "was not written by PyTorch; expected a file of torch.save")
        if start != _ZIP:
            _check_old(path, io.BytesIO(file.read(MAX_BYTES)), size)
            return
        _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            _check_archive(path, archive, size, largest)


def _check_directory(file: BinaryIO, size: int) -> None:
    """Check that every reader finds the same directory of a zip archive, just before its end.

    Raises:
        UnsafeError: the directory is at another place, or a comment follows it.
        BadZipFile: the end is missing.
    """
    file.seek(max(0, size - _END.size - _LOCATOR.size - _END_64.size))
    end = file.read()
    mark, *_, length, start, comment = _END.unpack(end[-_END.size :])
    stop = size - _END.size
    if mark != _MARK:
        raise zipfile.BadZipFile("the end of the archive is missing")
    if comment:
        raise UnsafeError("the archive has a comment")
    mark, _, place, _ = _LOCATOR.unpack(end[-_END.size - _LOCATOR.size : -_END.size])
    if mark == _MARK_LOCATOR:
        stop -= _LOCATOR.size + _END_64.size
        mark, *_, length, start = _END_64.unpack(end[: _END_64.size])
        if place != stop or mark != _MARK_64:
            raise UnsafeError("its directory is not at the end")
    if start + length != stop:
        raise UnsafeError("its directory is not at the end")


def _check_archive(path: Path, archive: zipfile.ZipFile, size: int, largest: int) -> None:
    entries = archive.infolist()
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise UnsafeError("it has two entries of one name")
    total = sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_ENTRIES or total > min(largest, max(_SMALL, _RATIO * size)):
        _fail(
            path,
            f"is an archive of {size} bytes that unpacks to {total} bytes in {len(entries)} "
            "entries; PyTorch does not compress weights, so it was made by something else",
        )
    pickles = [entry for entry in entries if entry.filename.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        _fail(path, "is an archive without the file data.pkl; expected a file of torch.save")
    if pickles[0].file_size > MAX_BYTES:
        _fail(path, f"has a table of contents of more than {MAX_BYTES} bytes")
    outline = read_outline(io.BytesIO(archive.read(pickles[0])))
    _check_names(path, outline)
    stem = pickles[0].filename.removesuffix("data.pkl")
    sizes = {entry.filename.removeprefix(f"{stem}data/"): entry.file_size for entry in entries}
    for key, (kind, count) in outline.storages.items():
        if count * _SIZES.get(kind, 1) > sizes.get(key, 0):
            _fail(path, "is damaged: a tensor claims more values than the file holds")


def _check_old(path: Path, start: io.BytesIO, size: int) -> None:
    """Check a file of PyTorch before version 1.6: pickles, then the data of the tensors."""
    for number in range(_OLD_PARTS):
        try:
            outline = read_outline(start)
        except EOFError:
            if start.getbuffer().nbytes == MAX_BYTES:
                _fail(path, f"has a table of contents of more than {MAX_BYTES} bytes")
            if number == 0:
                raise
            break  # a single pickle, which PyTorch refuses
        _check_names(path, outline)
        needed = sum(_SIZES.get(kind, 1) * count for kind, count in outline.storages.values())
        if needed > size:
            _fail(path, "is damaged or truncated: its tensors claim more values than it holds")


def _check_names(path: Path, outline: Outline) -> None:
    """Refuse functions and classes other than those of PyTorch and of numbers of NumPy."""
    allowed = {"collections.OrderedDict", "_codecs.encode", "builtins.complex", "numpy.dtype"}
    others = outline.functions.keys() - allowed - set(_SCALAR)
    if any(not name.startswith("torch.") for name in others):
        _fail(path, _OBJECTS)
    if any(function.longest > _LONGEST_ENCODED for function in outline.functions.values()):
        raise UnsafeError("it encodes a long text")


@contextlib.contextmanager
def _numpy_numbers() -> Iterator[None]:
    """Context in which PyTorch reads numbers of NumPy; their dtypes were checked before."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(name)) for name in ("b1", *"bhilqBHILQefd")}
    names = [(scalar, name) for name in _SCALAR]
    with torch.serialization.safe_globals([*names, (np.dtype, "numpy.dtype"), *dtypes]):
        yield


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return one_line(f"{type(error).__name__}: {lines[0]}", 120)


def _fail(path: Path, message: str) -> NoReturn:
    raise CheckpointError(f"{printable(path, 200)}: {message}") from None
