"""Photos that need much memory are refused by their headers, before anything is decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from tiff_files import Layout, tiff

from refusion.errors import ImageError
from refusion.images.header import read_header
from refusion.images.io import read_image
from refusion.images.listing import format_by_bytes
from refusion.images.size import count_pixels

GIBIBYTE = 2**30
SIDE = 20_000


def saved(kind, size=(64, 64), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def tiff_bomb(**tags):
    """Twenty strips of 1000 rows, all stored at the same place."""
    one = np.zeros((1000, SIDE, 1), np.uint8)
    data = tiff(one, Layout(8, 1, "deflate", rows=1000))
    size = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 279, 4, 1)) + 8)[0]
    tags = {"t273": (4, (8,) * 20), "t279": (4, (size,) * 20)} | tags
    return tiff(one, Layout(8, 1, "deflate", rows=1000), t257=(4, (SIDE,)), **tags)


def jpeg_bomb():
    """The frame header says 20000x20000."""
    data = saved("JPEG")
    return data.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", SIDE, SIDE), 1)


def png_chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_bomb(side=SIDE):
    """One bit per pixel, all black."""
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes(side * (1 + -(-side // 8))))
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", lines) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp_bomb(side=13_000):
    """An image of one colour needs no bits for its pixels, whatever its size."""
    data = bytearray(saved("WEBP", lossless=True))
    bits = int.from_bytes(data[21:25], "little")
    bits = bits & ~0xFFFFFFF | (side - 1) | (side - 1) << 14
    data[21:25] = bits.to_bytes(4, "little")
    return bytes(data)


BOMBS = {"a.tif": tiff_bomb, "a.jpg": jpeg_bomb, "a.png": png_bomb, "a.webp": webp_bomb}
MEASURE = """
import re, sys
from pathlib import Path
from refusion.images.io import read_image
from refusion.errors import ImageError
limit, warm_up, *paths = sys.argv[1:]
read_image(warm_up)  # loads the libraries
for path in paths:
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    before = peak()
    try:
        read_image(path, max_memory=int(limit) or None)
        message = "read"
    except ImageError as error:
        message = str(error)
    print((peak() - before) / 1024, message)
"""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads the peak from /proc"
)


def growth(paths, max_memory, warm_up=None):
    """For each file, the megabytes by which reading it grows the process, and the message."""
    warm_up = warm_up or paths[0].with_name("warm.tif")
    if not warm_up.exists():
        Image.new("RGB", (8, 8)).save(warm_up, compression="tiff_lzw")
    command = [sys.executable, "-c", MEASURE, str(max_memory), str(warm_up), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return [(float(grown), message) for grown, _, message in lines]


@pytest.mark.parametrize("name", BOMBS)
def test_little_files_of_large_photos_are_refused_under_a_limit(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    assert path.stat().st_size < 200_000
    assert count_pixels(path) == (13_000**2 if name == "a.webp" else SIDE**2)
    if name == "a.jpg":
        reason = "truncated, 20000x20000 pixels take 390625 bytes or more"
    else:
        reason = r"max memory: decoding \d+x\d+ pixels needs about \d+\.\d\d GB, the limit leaves"
    with pytest.raises(ImageError, match=reason):
        read_image(path, max_memory=GIBIBYTE // 4)


@needs_proc
def test_refusing_needs_no_memory(tmp_path):
    paths = [tmp_path / name for name in BOMBS]
    for path in paths:
        path.write_bytes(BOMBS[path.name]())
    for grown, message in growth(paths, GIBIBYTE // 4):
        assert "max memory" in message or "truncated" in message
        assert grown < 10


@pytest.mark.parametrize("name", ["b.tif", "b.jpg", "b.png", "b.webp"])
def test_the_limit_is_that_of_the_header(tmp_path, name):
    path = tmp_path / name
    Image.new("RGB", (500, 400)).save(path)
    with path.open("rb") as file:
        header = read_header(file, format_by_bytes(file.read(16)))
    assert (header.width, header.height) == (500, 400)
    assert read_image(path, max_memory=header.memory).samples.shape == (3, 400, 500)
    with pytest.raises(ImageError, match=f"^{path}: max memory: .*--max-memory"):
        read_image(path, max_memory=header.memory - 1)
    with pytest.raises(ImageError, match=r"the limit leaves 0\.00 GB"):
        read_image(path, max_memory=-(10**9))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"t322": (4, (60_000,)), "t323": (4, (60_000,))}, "far more than the image of 9x7"),
        ({"t277": (3, (5000,))}, "tag SamplesPerPixel is 5000"),
        ({"t322": (4, (2**31,)), "t323": (4, (2**31,))}, "far more than the image of 9x7"),
    ],
)
def test_strips_and_tiles_far_larger_than_the_image_are_refused(tmp_path, tags, reason):
    samples = np.zeros((7, 9, 1), np.uint8)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(samples, Layout(8, 1, "deflate"), **tags))
    with pytest.raises(ImageError, match=reason):
        read_image(path)


def test_tiny_tiles_of_a_large_image_are_refused(tmp_path):
    data = tiff_bomb(t322=(4, (1,)), t323=(4, (1,)))
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="tiles or strips of 1x1 pixels are too many"):
        read_image(tmp_path / "a.tif")


@needs_proc
def test_a_strip_never_decodes_to_more_than_it_can_hold(tmp_path):
    """50 MB of zeros in the strip of an image of 300 by 1 pixels."""
    paths = []
    for codec in ("deflate", "lzw", "lzma", "zstd"):
        large = tiff(np.zeros((1, 50_000_000, 1), np.uint8), Layout(8, 1, codec))
        at = large.index(struct.pack("<HHI", 256, 4, 1)) + 8
        paths.append(tmp_path / f"{codec}.tif")
        paths[-1].write_bytes(large[:at] + struct.pack("<I", 300) + large[at + 4 :])
    for grown, message in growth(paths, 0):
        assert message == "read" or "damaged" in message
        assert grown < 20


def test_a_picture_inside_a_tile_has_the_size_of_the_tile(tmp_path):
    for codec, picture, shape in (
        ("jpeg", imagecodecs.jpeg8_encode, (4000, 4000)),
        ("jpeg", imagecodecs.jpeg8_encode, (64, 4000)),
        ("png", imagecodecs.png_encode, (4000, 4000)),
    ):
        samples = np.zeros((64, 64, 1), np.uint8)
        large = bytes(picture(np.zeros(shape, np.uint8)))
        start = tiff(samples, Layout(8, 1, codec, rows=64))
        tags = {"t273": (4, (len(start) + 100,)), "t279": (4, (len(large),))}
        start = tiff(samples, Layout(8, 1, codec, rows=64), **tags).ljust(len(start) + 100, b"\0")
        (tmp_path / "a.tif").write_bytes(start + large)
        with pytest.raises(ImageError, match=r"expected 64x64|invalid out\.shape"):
            read_image(tmp_path / "a.tif")


def test_parts_that_state_different_sizes_are_refused(tmp_path):
    """Pillow takes the size of the last frame header of a JPEG."""
    data = saved("JPEG")
    at = data.index(b"\xff\xc0")
    length = struct.unpack_from(">H", data, at + 2)[0]
    frame = data[at : at + 2 + length].replace(struct.pack(">HH", 64, 64), b"\x40\x00\x40\x00")
    (tmp_path / "a.jpg").write_bytes(data[: at + 2 + length] + frame + data[at + 2 + length :])
    with pytest.raises(ImageError, match="different sizes"):
        read_image(tmp_path / "a.jpg")


KINDS = {
    "rgb.jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True, "subsampling": 0}),
    "gray.jpg": ("L", {"progressive": True}),
    "cmyk.jpg": ("CMYK", {}),
    "rgb.png": ("RGB", {}),
    "rgba.png": ("RGBA", {}),
    "key.png": ("RGB", {"transparency": (1, 2, 3)}),
    "bits.png": ("1", {}),
    "palette.png": ("P", {}),
    "lossy.webp": ("RGB", {}),
    "alpha.webp": ("RGBA", {"lossless": True}),
    "strips.tif": ("RGB", {"compression": "tiff_lzw"}),
    "one.tif": ("RGB", {"compression": "tiff_adobe_deflate", "tiffinfo": {278: 2000}}),
    "cmyk.tif": ("CMYK", {}),
    "fax.tif": ("1", {"compression": "group4"}),
}


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_estimates_are_close_to_the_measured_peak(tmp_path, name, orientation):
    mode, options = KINDS[name]
    path = tmp_path / name
    blocks = np.random.default_rng(0).integers(0, 256, (250, 250, 4), np.uint8)
    image = Image.fromarray(blocks).convert("RGB").resize((2000, 2000)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = dict(options)
    if name.endswith(".tif"):
        options["tiffinfo"] = options.get("tiffinfo", {}) | {0x0112: orientation}
    else:
        options["exif"] = exif
    image.save(path, **options)
    with path.open("rb") as file:
        estimate = read_header(file, format_by_bytes(file.read(16))).memory / 2**20
    small = path.with_name(f"small{path.suffix}")
    image.resize((16, 16)).save(small, **options)
    ((grown, message),) = growth([path], 0, small)
    assert message == "read"
    assert 0.98 * grown - 2 <= estimate <= 2.6 * grown + 10
