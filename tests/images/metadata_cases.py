"""Photo files with metadata, and readers of metadata, built without the code they judge."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

from image_cases import ICC, noise
from PIL import Image

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
APP1, APP2, APP11, APP13, COM = 0xE1, 0xE2, 0xEB, 0xED, 0xFE
IPTC = b"\x1c\x02\x74\x00\x06(c) Io" + b"\x1c\x02\x50\x00\x02Io" + b"\x1c\x02\x78\x00\x03Sea"


def picture(suffix, size=(9, 5), **options):
    """Bytes of a small picture without metadata."""
    file = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    if suffix == "webp":
        options["lossless"] = True
    Image.fromarray(noise(*size, 3)).save(file, kind, **options)
    return file.getvalue()


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(*segments, behind=b""):
    data = picture("jpg")
    end = 4 + struct.unpack_from(">H", data, 4)[0]  # behind the JFIF segment
    return data[:end] + b"".join(segment(*part) for part in segments) + data[end:] + behind


def chunk(kind, content, *, crc=None):
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png(*chunks, behind=b""):
    data = picture("png")
    return data[:33] + b"".join(chunk(*part) for part in chunks) + data[33:] + behind


def webp(*chunks, behind=b""):
    body = picture("webp")[12:]
    flags = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
    head = bytes([sum(flags.get(kind, 0) for kind, _ in chunks), 0, 0, 0, 4, 0, 0, 8, 0, 0])
    parts = [(b"VP8X", head)]
    parts += [part for part in chunks if part[0] == b"ICCP"]
    front = b"".join(_riff(*part) for part in parts)
    back = b"".join(_riff(*part) for part in chunks if part[0] != b"ICCP")
    content = b"WEBP" + front + body + back
    return b"RIFF" + struct.pack("<I", len(content)) + content + behind


def _riff(kind, content):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def tiff(tags=None, **options):
    return picture("tif", tiffinfo=tags or {}, **options)


def segments(data):
    """Marker and content of the segments before the pixels of a JPEG."""
    at = 2
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def chunks(data):
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        assert data[at + 8 + length : at + 12 + length] == struct.pack(
            ">I", zlib.crc32(data[at + 4 : at + 8 + length])
        )
        yield kind, data[at + 8 : at + 8 + length]
        at += length + 12


def info(data):
    """What Pillow reads: exif without its header, xmp, icc_profile, dpi and others."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        found = dict(image.info)
        if image.format == "TIFF":
            found["xmp"] = image.tag_v2.get(700)
    found["exif"] = found.get("exif", b"").removeprefix(b"Exif\0\0")
    return found


def exif_tags(data):
    """Tags of the first EXIF directory as Pillow reads them."""
    with Image.open(io.BytesIO(data)) as image:
        return dict(image.getexif())


def exif(tags=None, *, orientation=1, note=b"notes of the camera"):
    block = Image.Exif()
    block[0x0112] = orientation
    block.get_ifd(0x8769).update({0x829A: 0.008, 0x927C: note})
    block.get_ifd(0x8825).update({1: "N", 3: "E"})
    for tag, value in (tags or {}).items():
        block[tag] = value
    return block.tobytes().removeprefix(b"Exif\0\0")


def packet(properties, namespaces=""):
    """XMP packet with properties as XML inside of one description."""
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x='
        f'"adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" {namespaces}>{properties}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


RIGHTS = "<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>© Ío</rdf:li></rdf:Alt></dc:rights>"
XMP = packet(RIGHTS)


def extended_segments(extended, properties=RIGHTS):
    """Segments of a packet with an extended packet, in two parts."""
    name = hashlib.md5(extended).hexdigest().upper()
    note = 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    main = packet(properties + f"<xmpNote:HasExtendedXMP>{name}</xmpNote:HasExtendedXMP>", note)
    half = len(extended) // 2
    parts = [(half, extended[half:]), (0, extended[:half])]  # the order does not matter
    found = [(APP1, XMP_HEADER + main)]
    for at, part in parts:
        head = EXTENDED_HEADER + name.encode() + struct.pack(">II", len(extended), at)
        found.append((APP1, head + part))
    return main, found


def resource(number, content):
    return (
        b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + bytes(len(content) % 2)
    )


def raw_profile(name, content):
    digits = content.hex()
    text = f"\n{name}\n{len(content):8d}\n{digits[:72]}\n{digits[72:]}\n".encode()
    return b"zTXt", b"Raw profile type " + name.encode() + b"\0\0" + zlib.compress(text)


def with_icc(suffix):
    return picture(suffix, icc_profile=ICC)


def with_exif(suffix, block):
    """A file with an EXIF block, byte for byte; a TIFF has the tags of the block."""
    if suffix == "tif":
        loaded = Image.Exif()
        loaded.load(b"Exif\0\0" + block)
        return picture("tif", exif=loaded)
    files = {
        "jpg": lambda: jpeg((APP1, b"Exif\0\0" + block)),
        "png": lambda: png((b"eXIf", block)),
        "webp": lambda: webp((b"EXIF", block)),
    }
    return files[suffix]()


def with_xmp(suffix, xmp):
    files = {
        "jpg": lambda: jpeg((APP1, XMP_HEADER + xmp)),
        "png": lambda: png((b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp)),
        "webp": lambda: webp((b"XMP ", xmp)),
        "tif": lambda: tiff({700: xmp}),
    }
    return files[suffix]()
