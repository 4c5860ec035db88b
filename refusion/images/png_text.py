"""Text chunks of PNG files (PNG specification, third edition, 11.3.3), and raw profiles in them.

ImageMagick writes EXIF, IPTC, XMP and ICC blocks in hexadecimal as texts "Raw profile type NAME".
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from refusion.images.source import MAX_BLOCK

KINDS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW = "Raw profile type "
MAX_TEXT = 1_000_000  # longer compressed texts are dropped; other programs refuse the file
_KEYWORD = 79  # longest keyword in bytes


@dataclass(frozen=True)
class Text:
    """A text chunk.

    Attributes:
        keyword: such as "Author".
        content: bytes of the text, after decompression.
        is_utf8: UTF-8 (iTXt) or Latin-1.
    """

    keyword: str
    content: bytes
    is_utf8: bool

    @property
    def text(self) -> str:
        """The text as a string."""
        return self.content.decode("utf-8" if self.is_utf8 else "latin-1", "replace")

    @property
    def profile(self) -> str | None:
        """Name of the raw profile that the text contains, in lower case; None for other texts."""
        is_raw = self.keyword.startswith(_RAW)
        return self.keyword.removeprefix(_RAW).strip().lower() if is_raw else None


def read_text(kind: bytes, content: bytes, limit: int = MAX_BLOCK) -> Text:
    """Read the content of a text chunk.

    Args:
        kind: one of `KINDS`.
        content: content of the chunk.
        limit: largest number of bytes of the text.

    Raises:
        ValueError: the chunk is damaged, or the text is longer than this package reads.
    """
    keyword, found, rest = content.partition(b"\0")
    if not found or not keyword:
        raise ValueError("no keyword")
    name = keyword.decode("latin-1")
    is_block = name == XMP_KEYWORD or name.startswith(_RAW)
    compressed = kind == b"zTXt"
    limit = min(limit, 2 * MAX_BLOCK if is_block else MAX_TEXT)
    rest = rest[1:] if compressed else rest  # the method of compression
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        if len(parts) < 3:
            raise ValueError("no text")
        rest = parts[2]
    return Text(name, inflated(rest, limit) if compressed else rest, kind == b"iTXt")


def inflated(content: bytes, limit: int) -> bytes:
    """Decompress a zlib stream.

    Raises:
        ValueError: the stream is damaged, or longer than `limit` bytes.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise ValueError("damaged compression") from error
    if len(data) > limit:
        raise ValueError("too long")
    return data


def raw_profile(text: bytes) -> bytes:
    """Decode the hexadecimal content of a raw profile: name, length, and the bytes.

    Raises:
        ValueError: the text has another form.
    """
    match = re.match(rb"\s*\S+\s+(\d+)\s", text)
    if match is None:
        raise ValueError("no length")
    length = int(match[1][:12])
    content = bytes.fromhex(text[match.end() :].decode("latin-1"))
    if len(content) < length:
        raise ValueError("truncated")
    return content[:length]


def as_raw_profile(name: str, content: bytes) -> tuple[bytes, bytes]:
    """Kind and content of a chunk with a raw profile."""
    digits = content.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{name}\n{len(content):8d}\n{lines}\n"
    return b"zTXt", (_RAW + name).encode() + b"\0\0" + zlib.compress(text.encode())


def text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    """Kind and content of a text chunk: tEXt if Latin-1 holds the text, else iTXt."""
    name = keyword.encode("latin-1", "replace")[:_KEYWORD]
    text = text.replace("\0", " ")
    try:
        return b"tEXt", name + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", name + bytes(5) + text.encode("utf-8", "replace")


def texts_in(chunks: bytes) -> Iterator[Text]:
    """Yield the texts among complete chunks, as `Photo.png_chunks` has them."""
    for kind, content in split_chunks(chunks):
        if kind in KINDS:
            yield read_text(kind, content)


def split_chunks(chunks: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of complete chunks that follow each other."""
    at = 0
    while at + 12 <= len(chunks):
        length, kind = struct.unpack_from(">I4s", chunks, at)
        yield kind, chunks[at + 8 : at + 8 + length]
        at += length + 12
