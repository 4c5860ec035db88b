"""HDR photos with gain maps, built without the code they judge, and readers of them."""

from __future__ import annotations

import io
import re
import struct

import metadata_cases as cases
import numpy as np
from PIL import Image, MpoImagePlugin

ADOBE = "http://ns.adobe.com/hdr-gain-map/1.0/"
VALUES = {
    "GainMapMin": 0,
    "GainMapMax": 3,
    "Gamma": 1,
    "OffsetSDR": 0,
    "OffsetHDR": 0,
    "HDRCapacityMin": 0,
    "HDRCapacityMax": 3,
    "BaseRenditionIsHDR": "False",
}
APPLE = (
    '<a:AuxiliaryImageType xmlns:a="http://ns.apple.com/pixeldatainfo/1.0/">urn:com:apple:photo:'
    "2020:aux:hdrgainmap</a:AuxiliaryImageType><h:HDRGainMapVersion xmlns:h="
    '"http://ns.apple.com/HDRGainMap/1.0/">131072</h:HDRGainMapVersion>'
)
ISO = b"urn:iso:std:iso:ts:21496:-1\0"
CONTAINER = (
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)


def coded(pixels, quality=95, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, **options)
    return file.getvalue()


def with_segments(jpeg, *parts):
    """A JPEG with more segments behind its JFIF segment."""
    end = 4 + struct.unpack_from(">H", jpeg, 4)[0]
    return jpeg[:end] + b"".join(cases.segment(*part) for part in parts) + jpeg[end:]


def scene(height=64, width=96):
    """Photo with a slope of colours, and the gain map of half its size with a bright corner."""
    rows, columns = np.mgrid[:height, :width]
    photo = np.stack([columns * 200 // width, rows * 200 // height, 0 * rows + 80], -1)
    gain = np.zeros((height // 2, width // 2), np.uint8)
    gain[4:12, 8:36] = 255
    gain[20:28, 4:10] = 128
    return photo.astype(np.uint8), gain


def item(semantic, **values):
    attributes = " ".join(f'Item:{key}="{value}"' for key, value in values.items())
    return (
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{semantic}" '
        f"{attributes}/></rdf:li>"
    )


def directory(*items):
    return f"<Container:Directory><rdf:Seq>{''.join(items)}</rdf:Seq></Container:Directory>"


def map_jpeg(gain=None, packet=None, **options):
    """The gain map as a JPEG with the metadata of Ultra HDR, or with another packet."""
    values = " ".join(f'hdrgm:{key}="{value}"' for key, value in VALUES.items())
    own = cases.packet("", f'xmlns:hdrgm="{ADOBE}" hdrgm:Version="1.0" {values}')
    gain = scene()[1] if gain is None else gain
    return with_segments(coded(gain, **options), (cases.APP1, cases.XMP_HEADER + (packet or own)))


def index(first, *places, base=0, order=">"):
    """Content of the segment with a multi-picture index: lengths and offsets of pictures."""
    entries = struct.pack(order + "IIIHH", 0x030000, first, 0, 0, 0)
    for length, offset in places:
        entries += struct.pack(order + "IIIHH", 0, length, offset - base, 0, 0)
    head = b"MM\0*" if order == ">" else b"II*\0"
    tags = struct.pack(order + "IHHHI4s", 8, 3, 0xB000, 7, 4, b"0100")
    tags += struct.pack(order + "HHII", 0xB001, 4, 1, 1 + len(places))
    tags += struct.pack(order + "HHIII", 0xB002, 7, len(entries), 50, 0)
    return b"MPF\0" + head + tags + entries


def with_index(photo, *pictures, order=">"):
    """A JPEG with pictures behind it, and the index of all."""
    empty = index(0, *[(0, 0)] * len(pictures), order=order)
    end = 4 + struct.unpack_from(">H", photo, 4)[0]
    base, first = end + 8, len(photo) + len(empty) + 4
    places, at = [], first
    for picture in pictures:
        places.append((len(picture), at))
        at += len(picture)
    segment = (cases.APP2, index(first, *places, base=base, order=order))
    return with_segments(photo, segment) + b"".join(pictures)


def ultra_hdr(orientation=1, *, gain_map=None, has_index=True, behind=b"", items=(), rights=True):
    """A photo as the Ultra HDR image format 1.1 describes it."""
    photo, gain_map = coded(scene()[0]), gain_map or map_jpeg()
    listed = (
        item("Primary", Mime="image/jpeg"),
        item("GainMap", Mime="image/jpeg", Length=len(gain_map)),
        *items,
    )
    xmp = cases.packet(cases.RIGHTS * rights + directory(*listed), CONTAINER)
    photo = with_segments(photo, (cases.APP1, cases.XMP_HEADER + xmp))
    if orientation != 1:
        block = b"Exif\0\0" + cases.exif(orientation=orientation)
        photo = with_segments(photo, (cases.APP1, block))
    data = with_index(photo, gain_map) if has_index else photo + gain_map
    return data + behind


def apple(order=">"):
    return with_index(coded(scene()[0]), map_jpeg(packet=cases.packet(APPLE)), order=order)


def pictures(data):
    """Offset and length of the pictures in the index of a JPEG, and the index of the second."""
    ((content, base),) = [
        (content, data.index(content) + 4)
        for marker, content in cases.segments(data)
        if marker == cases.APP2 and content.startswith(b"MPF\0")
    ]
    assert content[4:12] == b"MM\0*\0\0\0\x08"
    numbers = [struct.unpack_from(">4I", content, 54 + 16 * number) for number in range(2)]
    assert [number[0] for number in numbers] == [0x030000, 0]
    assert numbers[0][2] == 0
    return [(0, numbers[0][1]), (base + numbers[1][2], numbers[1][1])]


def parts(data):
    """The photo and the gain map of a file; they are the whole file."""
    (first, length), (second, rest) = pictures(data)
    assert (first, second, second + rest) == (0, length, len(data))
    photo, gain_map = data[:second], data[second:]
    assert photo.endswith(b"\xff\xd9") and gain_map.endswith(b"\xff\xd9")
    with MpoImagePlugin.MpoImageFile(io.BytesIO(data)) as image:  # Pillow finds both by the index
        assert image.n_frames == 2
        image.seek(1)
        image.load()
    return photo, gain_map


def listed_length(photo):
    """Length of the gain map in the XMP packet of a photo; None if it lists none."""
    found = re.findall(rb'Item:Semantic="GainMap"[^>]*Item:Length="(\d+)"', photo)
    assert len(found) <= 1
    return int(found[0]) if found else None
