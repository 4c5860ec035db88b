"""Palettes, CMYK, orientation and metadata."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import metadata_cases as cases
import numpy as np
import pytest
import torch
from image_cases import (
    ICC,
    exif_block,
    levels,
    noise,
    png_16,
    png_chunks,
    squeezed,
)
from PIL import Image, ImageOps, IptcImagePlugin, JpegImagePlugin
from PIL.TiffImagePlugin import IFDRational

from refusion.images import decode, tiff_encode
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


def test_palette_becomes_rgb_or_rgba(tmp_path):
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    image.save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    assert photo.mode == "rgb" and photo.alpha is None
    assert np.array_equal(levels(photo.image), np.asarray(image.convert("RGB")))
    image.save(tmp_path / "b.png", transparency=3)
    photo = read_image(tmp_path / "b.png")
    assert np.array_equal(levels(photo.alpha)[..., 0] == 0, np.asarray(image) == 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_key_becomes_alpha_at_both_depths(tmp_path, channels):
    pixels = noise(6, 5, channels, np.uint16)
    key = pixels[2, 3].tolist()
    extra = (b"tRNS", struct.pack(f">{channels}H", *key))
    (tmp_path / "a.png").write_bytes(png_16(pixels, extra=extra))
    pixels_8 = noise(6, 5, channels)
    pixels_8[0, 0] = pixels_8[2, 3]
    key_8 = tuple(pixels_8[2, 3].tolist())
    Image.fromarray(squeezed(pixels_8)).save(
        tmp_path / "b.png", transparency=key_8 if channels == 3 else key_8[0]
    )
    for name, source in (("a.png", pixels), ("b.png", pixels_8)):
        photo = read_image(tmp_path / name)
        clear = (source == source[2, 3]).all(axis=2)
        assert np.array_equal(photo.alpha[0].numpy(), np.where(clear, 0.0, 1.0))


def test_a_colour_key_has_two_bytes_of_which_8_bits_use_the_lower(tmp_path):
    plain = tmp_path / "a.png"
    plain.write_bytes(cases.png())
    samples = read_image(plain).samples
    key = samples[:, 2, 3].tolist()
    plain.write_bytes(cases.png((b"tRNS", bytes((1, key[0], 2, key[1], 3, key[2])))))
    alpha = read_image(plain).alpha[0]
    assert alpha[2, 3] == 0 and alpha.sum() == alpha.numel() - 1


def test_low_depth_gray_colour_key(tmp_path):
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 17)
    image.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    rows = bytes.fromhex("0001230045670089ab00cdef")

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 4, 4, 4, 0, 0, 0, 0)
    (tmp_path / "b.png").write_bytes(
        data[:8]
        + chunk(b"IHDR", head)
        + chunk(b"tRNS", struct.pack(">H", 6))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    photo = read_image(tmp_path / "b.png")
    assert np.array_equal(levels(photo.image)[..., 0].ravel(), np.arange(16) * 17)
    assert (photo.alpha.flatten() == 0).nonzero().flatten().tolist() == [6]


def test_one_bit_is_gray(tmp_path):
    bits = noise(5, 9, 1)[..., 0] > 127
    for name in ("a.png", "a.tif"):
        Image.fromarray(bits).save(tmp_path / name)
        photo = read_image(tmp_path / name)
        assert photo.mode == "gray" and np.array_equal(levels(photo.image)[..., 0], bits * 255)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb_without_its_profile(tmp_path, caplog, suffix):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.save(tmp_path / f"a.{suffix}", icc_profile=ICC)
    photo = read_image(tmp_path / f"a.{suffix}")
    assert photo.icc is None and photo.jpeg_tables is None and "CMYK" in caplog.text
    assert np.abs(levels(photo.image) - [255, 0, 0]).max() <= 3
    write_image(tmp_path / "b.jpg", photo.image, photo)
    with Image.open(tmp_path / "b.jpg") as written:
        assert written.mode == "RGB" and "icc_profile" not in written.info


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "lzw.tif"])
def test_orientation_is_applied_and_reset(tmp_path, orientation, suffix):
    source = tmp_path / f"a.{suffix}"
    options = {"exif": exif_block(orientation)}
    if suffix == "lzw.tif":  # Pillow writes no EXIF directory into these
        options = {"compression": "tiff_lzw", "tiffinfo": {0x010F: "Maker", 0x0112: orientation}}
    if suffix == "webp":
        options["lossless"] = True
    Image.fromarray(noise(9, 5, 3)).save(source, **options)
    with Image.open(source) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert expected.shape[:2] == ((5, 9) if orientation > 4 else (9, 5))
    photo = read_image(source)
    assert np.array_equal(levels(photo.image), expected)
    write_image(tmp_path / f"b.{suffix}", photo.image, photo)
    with Image.open(tmp_path / f"b.{suffix}") as written:
        assert written.size == expected.shape[1::-1]
        exif = written.getexif()
        assert exif.get(0x0112, 1) == 1 and exif[0x010F] == "Maker"
        if suffix == "lzw.tif":
            return
        details = exif.get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == written.size
        assert details[0x829A] == IFDRational(1, 125)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_metadata_reaches_every_format(tmp_path, suffix, depth):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">r\xc3\xa9</x:xmpmeta>'
    Image.fromarray(noise(9, 5, 3)).save(
        tmp_path / "a.jpg", exif=exif_block(6), icc_profile=ICC, xmp=xmp, dpi=(300, 300)
    )
    photo = replace(read_image(tmp_path / "a.jpg"), bit_depth=depth)
    write_image(tmp_path / f"b.{suffix}", photo.image, photo)
    again = read_image(tmp_path / f"b.{suffix}")
    assert again.icc == ICC
    assert again.xmp == xmp.replace(b'"6"', b'"1"')
    assert decode.exif_orientation(again.exif) == 1
    assert suffix == "webp" or again.dpi == pytest.approx((300, 300), abs=0.02)
    assert again.bit_depth == (depth if suffix in ("png", "tif") else 8)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("length", [60, 75, 75000])
def test_iptc_is_kept(tmp_path, suffix, length):
    """Captions and copyright, in the Photoshop block of a JPEG; a long one takes two segments."""
    records = b"\x1c\x02\x78\x00\x0acaption 12" * (length // 15)
    photo = Photo(torch.rand(3, 8, 8), iptc=records)
    write_image(tmp_path / f"a.{suffix}", photo.image, photo)
    if (suffix, length) != ("jpg", 75000):  # Pillow reads the first segment only
        with Image.open(tmp_path / f"a.{suffix}") as written:
            assert IptcImagePlugin.getiptcinfo(written)[2, 120][0] == b"caption 12"
    again = read_image(tmp_path / f"a.{suffix}")
    assert again.iptc == records
    write_image(tmp_path / "b.jpg", again.image, again)


def test_exif_of_big_tiff_and_the_directory_inside_it(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769).update({0x829A: IFDRational(1, 125), 0xA005: {1: "R98", 2: b"0100"}})
    photo = Photo(torch.rand(3, 8, 8), exif=exif.tobytes()[6:])
    monkeypatch.setattr(tiff_encode, "_BIG_TIFF_BYTES", 0)
    write_image(tmp_path / "a.tif", photo.image, photo)
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    again = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.jpg", again.image, again)
    with Image.open(tmp_path / "b.jpg") as written:
        read = written.getexif()
        assert read[0x010F] == "Maker" and read.get_ifd(0x8769)[0x829A] == IFDRational(1, 125)
        assert read.get_ifd(0xA005) == {1: "R98", 2: b"0100"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_patched_in_place_and_loses_its_thumbnail(tmp_path, order):
    exif = exif_block(8, order)[6:]
    at = struct.unpack_from(order + "I", exif, 4)[0]
    count = struct.unpack_from(order + "H", exif, at)[0]
    thumbnail = bytearray(exif + struct.pack(order + "HI", 0, 0))
    struct.pack_into(order + "I", thumbnail, at + 2 + 12 * count, len(exif))
    Image.fromarray(noise(9, 5, 3)).save(tmp_path / "a.png", exif=b"Exif\0\0" + bytes(thumbnail))
    photo = read_image(tmp_path / "a.png")
    assert len(photo.exif) == len(thumbnail)  # nothing moved: a maker's offsets still hold
    changed = [i for i, (a, b) in enumerate(zip(photo.exif, thumbnail, strict=True)) if a != b]
    assert struct.unpack_from(order + "I", photo.exif, at + 2 + 12 * count)[0] == 0
    assert 0 < len(changed) <= 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "block", [b"garbage!", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\x00\x40", b"II"]
)
def test_damaged_exif_is_dropped(tmp_path, caplog, suffix, block):
    source = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(9, 5, 3)).save(source, exif=b"Exif\0\0" + block)
    assert read_image(source).exif is None
    assert "damaged EXIF" in caplog.text


def test_metadata_too_long_for_jpeg_is_shortened_or_dropped(tmp_path, caplog):
    image = torch.rand(3, 4, 4)
    like = Photo(image, exif=exif_block()[6:] + bytes(70000), xmp=b"x" * 70000, icc=ICC * 200)
    write_image(tmp_path / "a.jpg", image, like)
    again = read_image(tmp_path / "a.jpg")
    assert b"Maker" in again.exif and len(again.exif) < 200
    assert again.xmp is None and again.icc == ICC * 200
    assert caplog.text.count("too long") == 2


def test_png_colour_chunks_are_kept(tmp_path):
    (tmp_path / "a.png").write_bytes(
        png_16(noise(3, 3, 3, np.uint16), extra=(b"gAMA", struct.pack(">I", 100000)))
    )
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", photo.image, photo)
    assert png_chunks((tmp_path / "b.png").read_bytes())[b"gAMA"] == struct.pack(">I", 100000)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [40, 93])
def test_jpeg_quality_is_that_of_the_input(tmp_path, mode, subsampling, quality):
    image = Image.fromarray(noise(40, 48, 3)).convert(mode)
    image.save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
    photo = read_image(tmp_path / "a.jpg")
    write_image(tmp_path / "b.jpg", photo.image, photo)
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert after.mode == before.mode and after.quantization == before.quantization
        if mode == "RGB":
            assert JpegImagePlugin.get_sampling(after) == subsampling


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_webp_stays_lossless_or_lossy(tmp_path, lossless, extended):
    options = {"icc_profile": ICC} if extended else {}
    Image.fromarray(noise(40, 48, 4)).save(tmp_path / "a.webp", lossless=lossless, **options)
    photo = read_image(tmp_path / "a.webp")
    assert photo.lossless == lossless
    write_image(tmp_path / "b.webp", photo.image, photo)
    assert read_image(tmp_path / "b.webp").lossless == lossless
