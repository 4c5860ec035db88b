"""PNG files whose coded data ends too early, although it ends as it should (zlib)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from metadata_cases import chunk

from refusion.errors import ImageError
from refusion.images.io import read_arrays

WIDTH, HEIGHT = 13, 11
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
PASSES += ((0, 1, 1, 2),)
KINDS = [(0, bits) for bits in (1, 2, 4, 8, 16)] + [(3, bits) for bits in (1, 2, 4, 8)]
KINDS += [(kind, bits) for kind in (2, 4, 6) for bits in (8, 16)]


def rows(kind, bits, interlaced, height=HEIGHT, value=0xFF):
    """Coded rows of an image of one value, each with its filter, one behind the other."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    found = []
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        width = len(range(left, WIDTH, across))
        row = b"\0" + bytes([value]) * -(-width * bits * channels // 8)
        found += [row] * (len(range(top, height, down)) if width else 0)
    return found


def png(kind, bits, interlaced, coded, height=HEIGHT):
    head = struct.pack(">IIBBBBB", WIDTH, height, bits, kind, 0, 0, interlaced)
    parts = [(b"IHDR", head)]
    if kind == 3:
        parts.append((b"PLTE", bytes(range(256)) * 3))
    data = zlib.compress(b"".join(coded))
    parts += [(b"IDAT", data[:9]), (b"IDAT", data[9:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_rows_that_are_missing_are_no_black_rows(tmp_path, kind, bits, interlaced):
    path = tmp_path / "a.png"
    for value in (0xFF, 0):
        coded = rows(kind, bits, interlaced, value=value)
        for count in range(1, len(coded)):
            path.write_bytes(png(kind, bits, interlaced, coded[:count]))
            with pytest.raises(ImageError, match="truncated") as caught:
                read_arrays(path)
            assert str(caught.value).startswith(f"{path}: ")
        path.write_bytes(png(kind, bits, interlaced, coded))
        samples = read_arrays(path).samples
        assert samples.shape == (3, HEIGHT, WIDTH)
        full = 2 ** max(bits, 8) - 1
        assert kind == 3 or (samples == (full if value else 0)).all()
        path.write_bytes(png(kind, bits, interlaced, [*coded, coded[0]]))  # too long
        assert np.array_equal(read_arrays(path).samples, samples)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_one_row(tmp_path, bits, interlaced):
    path, coded = tmp_path / "a.png", rows(0, bits, interlaced, 1)
    path.write_bytes(png(0, bits, interlaced, coded, 1))
    assert (read_arrays(path).samples == 2 ** max(bits, 8) - 1).all()
    path.write_bytes(png(0, bits, interlaced, coded[:-1], 1))
    with pytest.raises(ImageError, match="truncated"):
        read_arrays(path)


def test_a_long_black_photo_is_read(tmp_path):
    coded = [b"\0" + bytes(WIDTH * 3)] * 200_000  # 8 MB, in 8 kB of coded data
    (tmp_path / "a.png").write_bytes(png(2, 8, False, coded, 200_000))
    assert not read_arrays(tmp_path / "a.png").samples.any()
    (tmp_path / "a.png").write_bytes(png(2, 8, False, coded[:-1], 200_000))
    with pytest.raises(ImageError, match="truncated"):
        read_arrays(tmp_path / "a.png")


@pytest.mark.parametrize("where", ["nowhere", "behind the pixels"])
def test_a_missing_palette_is_named(tmp_path, where):
    data = png(3, 8, False, rows(3, 8, False))
    at = data.index(b"PLTE") - 4
    palette, rest = data[at : at + 780], data[:at] + data[at + 780 :]
    data = rest if where == "nowhere" else rest[:-12] + palette + rest[-12:]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="palette is missing; save the picture again"):
        read_arrays(tmp_path / "a.png")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("byte", [b"\0", b"\x55"])
def test_pixels_that_were_lost_in_a_copy_are_not_read(tmp_path, part, byte):
    """As after a crash of the machine: the file has its length, and its rest is one value."""
    levels = np.random.default_rng(0).integers(0, 4, (HEIGHT * 20, WIDTH * 3), np.uint8)
    coded = [b"\0" + row.tobytes() for row in levels]
    data = png(2, 8, False, coded, len(coded))
    end = data.index(b"IEND") - 8
    at = int(part * end)
    (tmp_path / "a.png").write_bytes(data[:at] + byte * (end - at) + data[end:])
    with pytest.raises(ImageError, match="its pixels are damaged, a checksum is wrong"):
        read_arrays(tmp_path / "a.png")


def test_one_wrong_bit_is_found(tmp_path):
    data = bytearray(png(2, 8, False, rows(2, 8, False)))
    data[data.index(b"IDAT") + 8] ^= 4
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="copy it again"):
        read_arrays(tmp_path / "a.png")
