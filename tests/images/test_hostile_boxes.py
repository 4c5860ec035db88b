"""Small HEIC and AVIF files that name one long block many times need little time and memory."""

from __future__ import annotations

import io
import struct
import tracemalloc

import pytest
from depth_cases import box, full_box

from refusion.images.depth_find import find_depth
from refusion.images.heif_boxes import HeifFile, Item, read_boxes

LONG = 100_000  # bytes of a block
TIMES = 250


def heif(*, properties=(), links=b"", count=0, places=b"", references=b"", data=b""):
    """A HEIC file with a main image, an auxiliary image and a packet; data follows the boxes.

    `count` is the number of entries in `links`. The packet has no place of its own: `places` gets
    the offset of the data, and returns the content of the box iloc.
    """
    items = ((1, b"hvc1", b""), (2, b"hvc1", b""), (3, b"mime", b"application/rdf+xml\0"))
    entries = b"".join(
        full_box(b"infe", struct.pack(">HH4s", number, 0, kind) + b"\0" + rest, version=2)
        for number, kind, rest in items
    )
    size = full_box(b"ispe", struct.pack(">II", 96, 64))
    own = b"".join(struct.pack(">HBB", number, 1, 1) for number in (1, 2))
    links = full_box(b"ipma", struct.pack(">I", 2 + count), own, links)
    meta = full_box(
        b"meta",
        full_box(b"pitm", struct.pack(">H", 1)),
        full_box(b"iinf", struct.pack(">H", len(items)), entries),
        full_box(b"iref", references),
        box(b"iprp", box(b"ipco", size, *properties), links),
        places and full_box(b"iloc", places),
    )
    return box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + meta + data


def reference(kind, source, target):
    return box(kind, struct.pack(">HHH", source, 1, target))


def peak(function):
    """Result of a function, and the bytes of memory that it takes."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_parts_without_a_length_in_the_file_are_counted():
    # Sizes of 0 bytes: an extent takes no byte of the box, which states 65535 of them, 100 times.
    places = struct.pack(">BBH", 0, 0, 100) + struct.pack(">HHH", 1, 0, 65535) * 100
    with pytest.raises(ValueError, match="too many boxes"):
        read_boxes(io.BytesIO(heif(places=places)))


@pytest.mark.parametrize("kind", [b"pixi", b"auxC", b"colr"])
def test_a_property_counts_once_for_an_item(kind):
    block = box(kind, bytes(4) + b"\3\x0a\x0a\x0a" + bytes(LONG))
    links = b"".join(struct.pack(">HB", number, TIMES) + b"\2" * TIMES for number in (1, 2))
    file = io.BytesIO(
        heif(properties=[block], links=links, count=2, references=reference(b"auxl", 2, 1))
    )
    boxes = read_boxes(file)
    for item in (boxes.primary, boxes.items[2]):
        assert [name for name, _ in item.properties] == [b"ispe", kind]
        assert item.depth == (10 if kind == b"pixi" else 8)
    found, memory = peak(lambda: find_depth(file, "HEIC"))
    assert found is None and memory < 20 * LONG


def test_a_packet_that_many_references_name_is_read_once():
    data = b" " * LONG
    image = box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0")
    references = reference(b"auxl", 2, 1) * TIMES + reference(b"cdsc", 3, 2) * TIMES
    options = {"properties": [image], "links": b"\0\2\1\2", "count": 1, "references": references}

    def places(start):
        return struct.pack(">BBHHHHII", 0x44, 0, 1, 3, 0, 1, start, len(data))

    start = len(heif(places=places(0), **options))
    file = io.BytesIO(heif(places=places(start), data=data, **options))
    boxes = read_boxes(file)
    assert boxes.referring(b"auxl", boxes.primary) == [boxes.items[2]]
    assert boxes.read(file, *boxes.describing(boxes.items[2])) == data
    found, memory = peak(lambda: find_depth(file, "HEIC"))
    assert found is not None and memory < 20 * LONG


def test_blocks_beyond_the_limit_are_left_out():
    image, too_long = Item(b"hvc1"), Item(b"Exif", extents=[(0, 1 << 30)])  # this one is not read
    blocks = [Item(b"mime", extents=[(0, 1 << 20)] * 30) for _ in range(9)]
    items = dict(enumerate([image, too_long, *blocks]))
    references = tuple((b"cdsc", number, (0,)) for number in range(1, len(items)))
    file = HeifFile((), image, items, references)
    assert [item.length >> 20 for item in file.describing(image)] == [1024, 30, 30, 30, 30]
