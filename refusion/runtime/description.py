"""What an ONNX file says about itself, read from its bytes: no engine is needed for it.

An ONNX file is one message of Protocol Buffers. Each of its fields is a key and a value. The texts
about the file are fields of the outermost message, beside the graph, which is skipped unread.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from refusion.errors import CheckpointError
from refusion.files import open_regular

FORMAT = 1
"""Version of the description in a file, its value `format`."""
_KEY = b"refusion"  # of the description among the texts
_LARGEST = 2 * 2**30  # bytes: the format has no larger files
_LARGEST_TEXT = 64 * 2**20  # bytes of one text
_MOST_FIELDS = 10_000
_GRAPH, _TEXT = 7, 14  # numbers of fields of ModelProto
_NUMBER, _BYTES = 0, 2  # kinds of values: whole number, bytes after their length
_FIXED = {1: 8, 5: 4}  # kinds of values with a fixed number of bytes


def read_description(path: Path) -> dict[str, Any]:
    """The description that `refusion export` wrote into a file.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file is no ONNX file, or it has no description, or one of another
            version.
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST:
            raise CheckpointError(f"{path}: is larger than 2 GB, the largest size of an ONNX file")
        try:
            text = _description(file, size)
        except ValueError:
            raise CheckpointError(
                f"{path}: cannot be loaded as an ONNX file; it is damaged or of another kind: name "
                "a file of 'refusion export'"
            ) from None
    if text is None:
        raise CheckpointError(
            f"{path}: was not written by 'refusion export', so nothing says how to restore photos "
            "with it"
        )
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: its description has another format; use the version of refusion that wrote "
            "it, or export the model again"
        )
    return description


def _description(file: BinaryIO, size: int) -> bytes | None:
    """The JSON text; None if there is none.

    Raises:
        ValueError: the bytes are no ONNX file.
    """
    found, has_graph = None, False
    for number, length in _fields(file, size):
        has_graph |= number == _GRAPH
        if number == _TEXT and length <= _LARGEST_TEXT:
            entry = io.BytesIO(file.read(length))
            texts = {part: entry.read(count) for part, count in _fields(entry, length)}
            if texts.get(1) == _KEY:
                found = texts.get(2)
    if not has_graph:
        raise ValueError
    return found


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Number and length of each field of bytes; the file is at the start of these bytes.

    Args:
        file: at the start of a message.
        end: end of the message.

    Raises:
        ValueError: the bytes are no message, or a message of very many fields.
    """
    for _ in range(_MOST_FIELDS):
        if file.tell() == end:
            return
        number, kind = divmod(_varint(file), 8)
        if kind == _NUMBER:
            _varint(file)
            continue
        if kind != _BYTES and kind not in _FIXED:
            raise ValueError
        length = _varint(file) if kind == _BYTES else _FIXED[kind]
        stop = file.tell() + length
        if stop > end:
            raise ValueError
        if kind == _BYTES:
            yield number, length
        file.seek(stop)
    raise ValueError


def _varint(file: BinaryIO) -> int:
    """A whole number in groups of 7 bits, the lowest first; raises `ValueError` at the end."""
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = file.read(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError
