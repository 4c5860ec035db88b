"""Strategies of hypothesis that build photo files from their parts, with wrong values in places."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

JUNK = st.binary(max_size=40)
_TEXT = st.one_of(
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from((b"", b"\x1b[31m", b"a\nb", b"=1+1", b"x" * 3000)),
)
# Numbers at the limits of the integer types, and small ones.
NUMBERS = st.one_of(
    st.integers(0, 40),
    st.sampled_from((255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)),
)
_XMP = st.one_of(
    JUNK,
    st.builds(
        lambda attribute, value: (
            b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-'
            b'rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
            b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
            b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
            b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
            + attribute + b'="' + value + b'"/></rdf:RDF></x:xmpmeta>'
        ),
        st.sampled_from(
            (b"tiff:Orientation", b"hdrgm:Version", b"GCamera:MotionPhoto",
             b"xmpNote:HasExtendedXMP", b"dc:rights")
        ),
        st.sampled_from((b"6", b"1", b"1.0", b"-1", b"\"", b"&lol;", b"0123456789ABCDEF" * 2)),
    ),
)  # fmt: skip


@st.composite
def directories(draw, tags=tuple(range(254, 300)), first=8, big=False):
    """Bytes of a TIFF directory with random entries; offsets point anywhere."""
    order = draw(st.sampled_from("<>"))
    entries = draw(
        st.lists(
            st.tuples(st.sampled_from(tags), st.integers(0, 18), NUMBERS, NUMBERS), max_size=12
        )
    )
    body = struct.pack(order + "H", draw(st.sampled_from((len(entries),) * 6 + (65535,))))
    for entry in entries:
        body += struct.pack(order + "HHII", *entry)
    following = draw(st.sampled_from((0, 0, 0, first, 1, 2**32 - 1)))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(order + "I", first) + body + struct.pack(order + "I", following)


_EXIF_TAGS = (256, 257, 270, 274, 282, 306, 315, 33432, 34665, 34853, 40965, 513, 514, 40962, 37500)
EXIF = st.one_of(
    JUNK, directories(_EXIF_TAGS), directories(_EXIF_TAGS).map(lambda b: b + bytes(99))
)


def _chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _raw_profile(kind, content):
    text = b"\n%s\n%8d\n" % (kind, len(content)) + content.hex().encode()
    return b"Raw profile type " + kind + b"\0\0" + zlib.compress(text)


_CHUNKS = st.one_of(
    st.tuples(st.just(b"tEXt"), st.builds(lambda k, v: k + b"\0" + v, _TEXT, _TEXT)),
    st.tuples(
        st.just(b"zTXt"), st.builds(lambda k, v: k + b"\0\0" + zlib.compress(v), _TEXT, _TEXT)
    ),
    st.tuples(
        st.just(b"zTXt"),
        st.builds(_raw_profile, st.sampled_from((b"exif", b"APP1", b"iptc", b"xmp", b"icc")), EXIF),
    ),
    st.tuples(st.just(b"iTXt"), _XMP.map(lambda xmp: b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
    st.tuples(st.just(b"eXIf"), EXIF),
    st.tuples(st.just(b"iCCP"), st.builds(lambda v: b"p\0\0" + zlib.compress(v), JUNK)),
    st.tuples(st.sampled_from((b"acTL", b"fcTL", b"fdAT", b"PLTE", b"IEND", b"IHDR")), JUNK),
    st.tuples(
        st.sampled_from((b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"tRNS", b"pHYs", b"bKGD")),
        st.one_of(JUNK, st.binary(min_size=4, max_size=4), st.binary(min_size=9, max_size=9)),
    ),
)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@st.composite
def pngs(draw):
    """A PNG file: a small image, random further chunks, and sometimes a wrong header."""
    colour, depth = draw(
        st.sampled_from(
            (
                (0, 8),
                (0, 1),
                (0, 16),
                (2, 8),
                (2, 16),
                (3, 8),
                (3, 2),
                (4, 8),
                (4, 16),
                (6, 8),
                (6, 16),
            )
        )
    )
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    row = 1 + -(-width * _CHANNELS[colour] * depth // 8)
    lines = draw(st.binary(min_size=row, max_size=row)) * height
    pixels = b"".join(b"\0" + lines[at + 1 : at + row] for at in range(0, len(lines), row))
    if draw(st.integers(0, 9)) == 0:
        width, height, depth = draw(NUMBERS), draw(NUMBERS), draw(st.integers(0, 255))
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if colour == 3:
        chunks.append(_chunk(b"PLTE", bytes(range(12))))
    data = zlib.compress(pixels)
    chunks.append(_chunk(b"IDAT", data[: draw(st.sampled_from((len(data),) * 9 + (5,)))]))
    for kind, content in draw(st.lists(_CHUNKS, max_size=4)):
        place = draw(st.integers(1, len(chunks)))
        checksum = draw(st.sampled_from((None,) * 9 + (7,)))
        chunks.insert(place, _chunk(kind, content, checksum))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"") + draw(_tails())


def _saved(kind, mode, **options):
    pixels = np.arange(7 * 9 * 4, dtype=np.uint8).reshape(7, 9, 4)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def small_png():
    """A valid PNG file of 9x7 pixels."""
    return _saved("PNG", "RGB")


_JPEGS = (
    _saved("JPEG", "RGB"),
    _saved("JPEG", "L"),
    _saved("JPEG", "CMYK"),
    _saved("JPEG", "RGB", progressive=True),
)
_SEGMENTS = st.one_of(
    st.tuples(st.just(0xE1), EXIF.map(lambda exif: b"Exif\0\0" + exif)),
    st.tuples(st.just(0xE1), _XMP.map(lambda xmp: b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
    st.tuples(
        st.just(0xE1),
        st.builds(
            lambda size, at, part: b"http://ns.adobe.com/xmp/extension/\0"
            + b"0123456789ABCDEF" * 2 + struct.pack(">II", size, at) + part,
            NUMBERS, NUMBERS, JUNK,
        ),
    ),
    st.tuples(st.just(0xE2), EXIF.map(lambda directory: b"MPF\0" + directory)),
    st.tuples(
        st.just(0xE2),
        st.builds(
            lambda number, count, part: b"ICC_PROFILE\0" + bytes((number, count)) + part,
            st.integers(0, 255), st.integers(0, 3), JUNK,
        ),
    ),
    st.tuples(
        st.just(0xED),
        st.builds(
            lambda number, size, part: b"Photoshop 3.0\x008BIM"
            + struct.pack(">HHI", number, 0, size) + part,
            st.sampled_from((0x0404, 0x03ED, 1)), NUMBERS, JUNK,
        ),
    ),
    st.tuples(st.sampled_from((0xFE, 0xE0, 0xEE, 0xDB, 0xC4, 0xDD)), st.one_of(_TEXT, JUNK)),
)  # fmt: skip


@st.composite
def jpegs(draw):
    """A JPEG file with random segments before the image and bytes after it."""
    base = draw(st.sampled_from(_JPEGS))
    added = b""
    for marker, content in draw(st.lists(_SEGMENTS, max_size=4)):
        length = draw(st.sampled_from((len(content) + 2,) * 9 + (0, 1, 65535)))
        added += struct.pack(">BBH", 0xFF, marker, min(length, 65535)) + content[:65533]
    return base[:2] + added + base[2:] + draw(_tails())


_WEBPS = tuple(_saved("WEBP", mode, lossless=exact) for mode in ("RGB", "RGBA") for exact in (0, 1))


@st.composite
def webps(draw):
    """A WebP file with an extended header and random chunks."""
    base = draw(st.sampled_from(_WEBPS))[12:]
    flags = draw(st.integers(0, 63))
    canvas = draw(st.sampled_from((b"\x08\0\0\x06\0\0",) * 6 + (b"\xff" * 6, b"\0" * 6)))
    chunks = [(b"VP8X", bytes((flags, 0, 0, 0)) + canvas)]
    kinds = st.sampled_from((b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"ABCD"))
    extra = draw(st.lists(st.tuples(kinds, st.one_of(EXIF, _XMP, JUNK)), max_size=4))
    body = b"".join(_riff_chunk(draw, *chunk) for chunk in chunks)
    if base.startswith(b"VP8X"):
        base = base[18:]
    body += base + b"".join(_riff_chunk(draw, *chunk) for chunk in extra)
    size = draw(st.sampled_from((len(body) + 4,) * 9 + (0, 2**32 - 1)))
    return b"RIFF" + struct.pack("<I", size) + b"WEBP" + body + draw(_tails())


def _riff_chunk(draw, kind, content):
    size = draw(st.sampled_from((len(content),) * 9 + (0, 2**32 - 1)))
    return kind + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def _entry(order, tag, kind, values):
    """A tag and its value bytes."""
    form = {1: "B", 3: "H", 4: "I"}[kind]
    return tag, kind, len(values), struct.pack(order + form * len(values), *values)


_TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 284, 296, 317, 320, 322)
_MORE_TAGS = (*_TAGS, 323, 324, 325, 330, 338, 339, 700, 33723, 34665, 34675, 34853, 50706, 270)


@st.composite
def tiffs(draw):
    """A TIFF file: a small image whose tags are partly replaced by values of any type."""
    order = draw(st.sampled_from("<>"))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    channels, photometric = draw(st.sampled_from(((1, 0), (1, 1), (3, 2), (4, 2), (4, 5), (1, 3))))
    depth = draw(st.sampled_from((1, 8, 8, 16, 32)))
    compression = draw(st.sampled_from((1, 1, 5, 8, 32773, 34925, 50000, 7)))
    pixels = bytes(range(256)) * (1 + width * height * channels * depth // 8 // 256)
    pixels = pixels[: height * -(-width * channels * depth // 8)]
    if compression == 8:
        pixels = zlib.compress(pixels)
    entries = [
        _entry(order, 256, 3, [width]), _entry(order, 257, 3, [height]),
        _entry(order, 258, 3, [depth] * channels), _entry(order, 259, 3, [compression]),
        _entry(order, 262, 3, [photometric]), _entry(order, 273, 4, [8]),
        _entry(order, 277, 3, [channels]), _entry(order, 278, 3, [height]),
        _entry(order, 279, 4, [len(pixels)]),
    ]  # fmt: skip
    if photometric == 3:
        entries.append(_entry(order, 320, 3, list(range(3 << min(depth, 8)))))
    wrong = st.tuples(
        st.sampled_from(_MORE_TAGS), st.integers(0, 18), NUMBERS, st.binary(max_size=24)
    )
    replaced = {tag: (tag, *rest) for tag, *rest in draw(st.lists(wrong, max_size=3))}
    entries = {entry[0]: entry for entry in entries} | replaced
    return _tiff_bytes(order, pixels, [entries[tag] for tag in sorted(entries)], draw) + draw(
        _tails()
    )


def _tiff_bytes(order, pixels, entries, draw):
    start = 8 + len(pixels) + len(pixels) % 2
    far_at = start + 2 + 12 * len(entries) + 4
    directory, far = struct.pack(order + "H", len(entries)), b""
    for tag, kind, count, value in entries:
        directory += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            directory += value.ljust(4, b"\0")
        else:
            directory += struct.pack(order + "I", far_at + len(far))
            far += value + b"\0" * (len(value) % 2)
    following = draw(st.sampled_from((0,) * 6 + (start, 2**32 - 1, 3)))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", start)
    body = pixels.ljust(start - 8, b"\0")
    return head + body + directory + struct.pack(order + "I", following) + far


@st.composite
def _tails(draw):
    """Bytes after the end of a photo, for example a second picture or a film."""
    return draw(st.sampled_from((b"",) * 4 + (b"\0", _JPEGS[1], b"\0\0\0\x18ftypmp42" + bytes(50))))


@st.composite
def damaged(draw, files):
    """A file of a strategy; one in four has some bytes replaced, removed or inserted."""
    data = bytearray(draw(files))
    if draw(st.integers(0, 3)) == 0:
        for _ in range(draw(st.integers(1, 4))):
            # The draws do not depend on the length, which torch.save does not repeat exactly.
            at = draw(st.integers(0, 2**16 - 1)) * len(data) >> 16
            end = at + draw(st.sampled_from((0, 1, 1, 1, 4, 2**20)))
            data[at:end] = draw(st.binary(max_size=4))
    return bytes(data)
