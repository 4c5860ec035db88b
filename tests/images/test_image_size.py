"""Sizes without decoding."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from refusion.images.io import write_image
from refusion.images.size import count_pixels


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_every_format(tmp_path, name):
    write_image(tmp_path / name, torch.rand(3, 7, 11))
    assert count_pixels(tmp_path / name) == 77
    (tmp_path / name).rename(tmp_path / "no_suffix")
    assert count_pixels(str(tmp_path / "no_suffix")) == 77


def test_big_deep_float_and_large_files(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((5, 6, 3), np.float32), bigtiff=True, photometric="rgb")
    assert count_pixels(path) == 30
    Image.new("I;16", (4, 9)).save(tmp_path / "deep.png")
    assert count_pixels(tmp_path / "deep.png") == 36
    head = b"IHDR" + struct.pack(">IIBBBBB", 70000, 80000, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks + data)
    assert count_pixels(tmp_path / "bomb.png") == 70000 * 80000


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"RI"]
)
def test_what_cannot_be_read_counts_nothing(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert count_pixels(tmp_path / "a.png") == 0
    assert count_pixels(tmp_path / "gone.png") == 0
    assert count_pixels(tmp_path) == 0
