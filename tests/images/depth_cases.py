"""Photos with depth maps as phones write them, built without the code they judge."""

from __future__ import annotations

import base64
import hashlib
import io
import struct

import gain_map_cases as hdr
import metadata_cases as cases
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
DEPTH_KIND = b"urn:mpeg:hevc:2015:auxid:2"
GDEPTH = 'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"'
DYNAMIC = " ".join(
    f'xmlns:{name}="http://ns.google.com/photos/dd/1.0/{name.lower()}/"'
    for name in ("Device", "Container", "Item", "Camera", "DepthMap")
)
APPLE = (
    'xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/" '
    'xmlns:depthData="http://ns.apple.com/depthData/1.0/"'
)


def disparity():
    """Relative disparity (32, 48): near at the bottom, a nearer subject left of the middle."""
    rows = np.linspace(0, 0.6, HEIGHT // 2)[:, None]
    values = np.broadcast_to(rows, (HEIGHT // 2, WIDTH // 2)).copy()
    values[10:30, 8:20] = 1
    return values


def photo(orientation=1):
    data = hdr.coded(hdr.scene(HEIGHT, WIDTH)[0])
    if orientation == 1:
        return data
    return hdr.with_segments(data, (cases.APP1, b"Exif\0\0" + cases.exif(orientation=orientation)))


def levels(values, bits=8):
    return np.round(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def picture(values, kind="PNG", bits=8):
    """Values in [0, 1] as an image file."""
    file = io.BytesIO()
    options = {"quality": 95} if kind == "JPEG" else {}
    Image.fromarray(levels(values, bits)).save(file, kind, **options)
    return file.getvalue()


def stored(form, near=0.5, far=8.0):
    """Values that a form stores for the disparity, by the definitions of Google."""
    depth = 1 / (disparity() * (1 / near - 1 / far) + 1 / far)
    if form == "RangeInverse":
        return far * (depth - near) / (depth * (far - near))
    return (depth - near) / (far - near)


def gdepth(
    form="RangeInverse", *, kind="PNG", bits=8, orientation=1, extended=True, text=None, near="0.5"
):
    """GDepth in XMP; the base64 text is in the extended packet, as Google's camera writes it."""
    if text is None:
        text = base64.b64encode(picture(stored(form), kind, bits)).decode()
    about = f'GDepth:Format="{form}" GDepth:Near="{near}" GDepth:Far="8.0" GDepth:Mime="image/png"'
    if not extended:
        packet = cases.packet("", f'{GDEPTH} {about} GDepth:Data="{text}"')
        return hdr.with_segments(photo(orientation), (cases.APP1, cases.XMP_HEADER + packet))
    rest = cases.packet("", f'{GDEPTH} GDepth:Data="{text}"')
    name = hashlib.md5(rest).hexdigest().upper()
    note = f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{name}"'
    parts = [(cases.APP1, cases.XMP_HEADER + cases.packet("", f"{GDEPTH} {about} {note}"))]
    for at in range(0, len(rest), 600):
        head = cases.EXTENDED_HEADER + name.encode() + struct.pack(">II", len(rest), at)
        parts.append((cases.APP1, head + rest[at : at + 600]))
    return hdr.with_segments(photo(orientation), *parts)


def dynamic_depth(form="RangeInverse", *, coded=None, length=None, padding=0, orientation=1):
    """Dynamic Depth 1.0: the second item of the directory, behind another picture."""
    coded = picture(stored(form), "JPEG") if coded is None else coded
    original = cases.picture("jpg")
    length = len(coded) if length is None else length
    items = (
        f'Item:Mime="image/jpeg" Item:Length="0" Item:Padding="{padding}" Item:DataURI="primary"',
        f'Item:Mime="image/jpeg" Item:Length="{len(original)}" Item:DataURI="android/original"',
        f'Item:Mime="image/jpeg" Item:Length="{length}" Item:DataURI="android/depthmap"',
    )
    listed = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item {item}/></rdf:li>' for item in items
    )
    camera = (
        f'<Camera:DepthMap DepthMap:Format="{form}" DepthMap:Near="0.5" DepthMap:Far="8"'
        ' DepthMap:Units="Meters" DepthMap:DepthURI="android/depthmap"/>'
    )
    packet = cases.packet(
        f"<Device:Container><Container:Directory><rdf:Seq>{listed}</rdf:Seq>"
        "</Container:Directory></Device:Container><Device:Cameras><rdf:Seq><rdf:li"
        f' rdf:parseType="Resource"><Device:Camera>{camera}</Device:Camera></rdf:li></rdf:Seq>'
        "</Device:Cameras>",
        DYNAMIC,
    )
    first = hdr.with_segments(photo(orientation), (cases.APP1, cases.XMP_HEADER + packet))
    return first + bytes(padding) + original + coded


def container(orientation=1, **options):
    """A portrait of a phone with a gain map, the original photo, the depth map and confidences."""
    coded = picture(stored("RangeInverse"), "JPEG")
    original, confidence = cases.picture("jpg"), cases.picture("jpg")
    items = (
        hdr.item("Original", Mime="image/jpeg", Length=len(original)),
        hdr.item("Depth", Mime="image/jpeg", Length=len(coded)),
        hdr.item("Confidence", Mime="image/jpeg", Length=len(confidence)),
    )
    return hdr.ultra_hdr(orientation, items=items, behind=original + coded + confidence)


def apple_packet(kind="disparity", native=b"hdis", low=0.125, high=2.0):
    number = int.from_bytes(native, "big")
    values = {"AuxiliaryImageType": kind, "NativeFormat": number, "StoredFormat": 1278226488}
    values |= {"FloatMinValue": low, "FloatMaxValue": high, "IntMinValue": 0, "IntMaxValue": 255}
    text = "".join(f"<apdi:{key}>{value}</apdi:{key}>" for key, value in values.items())
    return cases.packet(text + "<depthData:Quality>high</depthData:Quality>", APPLE)


def apple(kind="disparity", native=b"hdis", orientation=1, values=None):
    """A portrait of Apple as JPEG: gain map and disparity are pictures of the index."""
    values = disparity() if values is None else values
    packet = (cases.APP1, cases.XMP_HEADER + apple_packet(kind, native))
    coded = hdr.with_segments(picture(values, "JPEG"), packet)
    gain_map = hdr.map_jpeg(packet=cases.packet(hdr.APPLE))
    return hdr.with_index(photo(orientation), gain_map, coded)


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind, *parts, version=0, flags=0):
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def find_box(data, *path):
    """Content of the first box at a path; the boxes meta and iref have four bytes more."""
    for kind in path:
        at = 0
        while data[at + 4 : at + 8] != kind:
            at += struct.unpack_from(">I", data, at)[0]
        data = data[at + 8 : at + struct.unpack_from(">I", data, at)[0]]
        data = data[4:] if kind == b"meta" else data
    return data


def coded_heic(pixels):
    """The property hvcC and the coded data of an image, by pillow-heif."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90)
    data = file.getvalue()
    return find_box(data, b"meta", b"iprp", b"ipco", b"hvcC"), find_box(data, b"mdat")


def large(values):
    """Values at the size of the photo; an encoder of HEIC enlarges smaller images."""
    return np.kron(values, np.ones((2, 2)))


def heic(*, angle=None, map_angle=None, kind=DEPTH_KIND, packet=None, values=None):
    """A HEIC photo with an auxiliary image; angles are quarter turns anticlockwise."""
    rows = levels(large(disparity() if values is None else values))
    images = [hdr.scene(HEIGHT, WIDTH)[0], rows]
    (photo_codec, photo_data), (map_codec, map_data) = map(coded_heic, images)
    properties = [
        box(b"hvcC", photo_codec),
        full_box(b"ispe", struct.pack(">II", WIDTH, HEIGHT)),
        box(b"hvcC", map_codec),
        full_box(b"ispe", struct.pack(">II", rows.shape[1], rows.shape[0])),
        full_box(b"auxC", kind + b"\0"),
        box(b"irot", bytes([angle or 0])),
        box(b"irot", bytes([map_angle or 0])),
    ]
    own = [[1, 2] + [6] * (angle is not None), [3, 4, 5] + [7] * (map_angle is not None)]
    links = b"".join(
        struct.pack(">HB", number, len(part)) + bytes(0x80 | place for place in part)
        for number, part in enumerate(own, 1)
    )
    items, data = [(b"hvc1", b""), (b"hvc1", b"")], [photo_data, map_data]
    references = box(b"auxl", struct.pack(">HHH", 2, 1, 1))
    if packet is not None:
        items.append((b"mime", b"application/rdf+xml\0"))
        data.append(packet)
        references += box(b"cdsc", struct.pack(">HHH", 3, 1, 2))
    entries = b"".join(
        full_box(b"infe", struct.pack(">HH4s", number, 0, name) + b"\0" + rest, version=2)
        for number, (name, rest) in enumerate(items, 1)
    )

    def meta(start):
        places = struct.pack(">BBH", 0x44, 0, len(data))
        at = start
        for number, part in enumerate(data, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(part))
            at += len(part)
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", places),
            full_box(b"iinf", struct.pack(">H", len(items)) + entries),
            full_box(b"iref", references),
            box(
                b"iprp", box(b"ipco", *properties), full_box(b"ipma", struct.pack(">I", 2) + links)
            ),
        )

    head = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *data)
