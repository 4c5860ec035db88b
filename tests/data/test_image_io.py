"""Files are built here by Pillow and tifffile, so that readers are judged by other writers."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from refusion.data import image_decode, image_io, tiff_encode
from refusion.data.image_io import IMAGE_SUFFIXES, list_images, read_image, write_image
from refusion.data.photo import Photo
from refusion.errors import ImageError

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = [(1, 1), (1, 7), (3, 2), (33, 17)]
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
LOSSLESS = ["png", "tif", "webp"]


def noise(height, width, channels, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)


def squeezed(pixels):
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def levels(tensor, depth=8):
    """Float planes back to samples (H, W, C), computed in double precision."""
    return np.rint(tensor.double().permute(1, 2, 0).numpy() * (2**depth - 1)).astype(int)


def png_16(pixels, *, interlaced=False, extra=b""):
    """16-bit PNG, straight from the specification."""
    height, width, channels = pixels.shape

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    def lines(part):
        return b"".join(b"\0" + line.astype(">u2").tobytes() for line in part)

    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    adam7.append((1, 0, 2, 1))
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in adam7] if interlaced else [pixels]
    body = b"".join(lines(part) for part in passes if part.size)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + (chunk(*extra) if extra else b"")
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def png_chunks(data):
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += length + 12
    return found


def exif_block(orientation=1, order=None):
    exif = Image.Exif()
    if order is not None:
        exif.endian = order
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update({0xA002: 4000, 0xA003: 3000, 0x829A: IFDRational(1, 125)})
    return exif.tobytes()


# --- samples are kept -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_8_bit_round_trip_is_exact(tmp_path, suffix, mode, size):
    pixels = noise(*size, MODES[mode])
    source, target = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    Image.fromarray(squeezed(pixels)).save(source)
    photo = read_image(source)
    assert photo.image.shape == (3, *size) and photo.image.dtype == torch.float32
    assert photo.image.is_contiguous()
    write_image(target, photo.image, photo)
    with Image.open(target) as written:
        if suffix != "webp":
            assert written.mode == mode
        assert np.array_equal(np.asarray(written.convert(mode)), squeezed(pixels))
    again = read_image(target)
    assert torch.equal(again.image, photo.image)
    assert (again.alpha is None) == (photo.alpha is None) == (mode in ("L", "RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_16_bit_round_trip_is_exact(tmp_path, suffix, channels, size):
    pixels = noise(*size, channels, np.uint16)
    source, target = tmp_path / "a.png", tmp_path / f"b.{suffix}"
    source.write_bytes(png_16(pixels))
    photo = read_image(source)
    assert (photo.bit_depth, photo.mode) == (16, "gray" if channels < 3 else "rgb")
    write_image(target, photo.image, photo)
    again = read_image(target)
    assert torch.equal(again.image, photo.image)
    planes = again.image[:1] if channels < 3 else again.image
    planes = planes if again.alpha is None else torch.cat([planes, again.alpha])
    assert np.array_equal(levels(planes, 16), pixels)
    if suffix == "tif":  # an independent reader
        assert np.array_equal(tifffile.imread(target), squeezed(pixels))


def test_all_65536_levels_survive_png_and_tiff(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    pixels = np.stack([ramp, ramp[::-1], ramp.T], axis=2)
    (tmp_path / "a.png").write_bytes(png_16(pixels))
    photo = read_image(tmp_path / "a.png")
    for name in ("b.tif", "c.png"):
        write_image(tmp_path / name, photo.image, photo)
        photo = read_image(tmp_path / name)
    assert np.array_equal(levels(photo.image, 16), pixels)


def test_16_bit_png_is_decoded_alike_by_another_library(tmp_path):
    png = pytest.importorskip("kornia_rs.io")
    pixels = noise(300, 41, 3, np.uint16)
    image = torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1)
    write_image(tmp_path / "a.png", image, Photo(image, bit_depth=16))
    read = np.asarray(png.read_image_png_u16(str(tmp_path / "a.png"), "rgb"))
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_interlaced_16_bit_png(tmp_path, channels):
    pixels = noise(13, 11, channels, np.uint16)
    (tmp_path / "a.png").write_bytes(png_16(pixels, interlaced=True))
    photo = read_image(tmp_path / "a.png")
    assert np.array_equal(levels(photo.image, 16)[..., :1], pixels[..., :1])
    if channels % 2 == 0:
        assert np.array_equal(levels(photo.alpha, 16), pixels[..., -1:])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_16_bit_tiff_layouts(tmp_path, order, planar, compression, bigtiff):
    pixels = noise(37, 41, 3, np.uint16)
    data = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        byteorder=order,
        bigtiff=bigtiff,
    )
    assert np.array_equal(levels(read_image(tmp_path / "a.tif").image, 16), pixels)


def lzw(data):
    """TIFF's LZW without a single compression: a clear code before the table grows to 10 bits."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_lzw_tiff_keeps_both_bytes(tmp_path, channels):
    pixels = noise(9, 5, channels, np.uint16)
    strip = lzw(pixels.tobytes())
    tags = ImageFileDirectory_v2()
    tags[256], tags[257], tags[258], tags[259] = 5, 9, (16,) * channels, 5
    tags[262], tags[277], tags[278], tags[273], tags[279] = 2, channels, 9, 0, len(strip)
    if channels == 4:
        tags[338] = 2
    with (tmp_path / "a.tif").open("wb") as file:
        tags.save(file)
        file.write(strip)
    photo = read_image(tmp_path / "a.tif")
    assert (photo.bit_depth, photo.tiff_compression) == (16, "deflate")
    assert np.array_equal(levels(photo.image, 16), pixels[..., :3])
    write_image(tmp_path / "b.tif", photo.image, photo)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_tiff_is_written_as_float32(tmp_path, dtype, channels):
    pixels = np.random.default_rng(0).random((6, 5, channels)).astype(dtype)
    photometric = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", squeezed(pixels), photometric=photometric)
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.image, photo)
    written = tifffile.imread(tmp_path / "b.tif")
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, squeezed(pixels).astype(np.float32), atol=1.2e-7)
    write_image(tmp_path / "c.png", photo.image, photo)
    assert read_image(tmp_path / "c.png").bit_depth == 16


@pytest.mark.parametrize("codec", ["raw", "tiff_adobe_deflate", "tiff_lzw", "packbits"])
def test_tiff_stays_compressed_or_not(tmp_path, codec):
    pixels = noise(70, 40, 3)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=codec, dpi=(240, 120))
    photo = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", photo.image, photo)
    with Image.open(tmp_path / "b.tif") as written:
        assert written.info["compression"] == ("raw" if codec == "raw" else "tiff_adobe_deflate")
        assert written.info["dpi"] == (240, 120)
        assert np.array_equal(np.asarray(written), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_large_tiff_becomes_big_tiff(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tiff_encode, "_BIG_TIFF_BYTES", 1000)
    pixels = noise(600, 500, 3, dtype)
    depth = dtype().itemsize * 8
    image = torch.from_numpy(pixels.astype(np.float32) / (2**depth - 1)).permute(2, 0, 1)
    like = Photo(image, bit_depth=depth, exif=exif_block()[6:], icc=ICC)
    write_image(tmp_path / "a.tif", image, like)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff and np.array_equal(tiff.asarray(), pixels)
        assert tiff.pages[0].tags.valueof(271) == "Maker"


def test_associated_alpha_is_taken_out_of_the_colour(tmp_path):
    colour, alpha = np.full((2, 2, 3), 40000, np.uint16), np.full((2, 2, 1), 32768, np.uint16)
    stored = np.concatenate([(colour * (alpha / 65535)).round().astype(np.uint16), alpha], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(levels(read_image(tmp_path / "a.tif").image, 16) - 40000).max() <= 1


def test_white_is_zero_and_unspecified_extra_channel(tmp_path, caplog):
    gray = noise(4, 5, 1)
    tifffile.imwrite(tmp_path / "a.tif", gray[..., 0], photometric="miniswhite")
    photo = read_image(tmp_path / "a.tif")
    assert photo.mode == "gray" and np.array_equal(levels(photo.image)[..., :1], 255 - gray)
    rgbx = noise(4, 5, 4)
    tifffile.imwrite(tmp_path / "b.tif", rgbx, photometric="rgb", extrasamples=["unspecified"])
    photo = read_image(tmp_path / "b.tif")
    assert photo.alpha is None and np.array_equal(levels(photo.image), rgbx[..., :3])
    assert "dropped" in caplog.text


# --- palettes, colour keys, CMYK ----------------------------------------------------------------


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


# --- orientation and metadata -----------------------------------------------------------------


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
    assert image_decode.exif_orientation(again.exif) == 1
    assert suffix == "webp" or again.dpi == pytest.approx((300, 300), abs=0.02)
    assert again.bit_depth == (depth if suffix in ("png", "tif") else 8)


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


def test_metadata_too_long_for_jpeg_is_dropped(tmp_path, caplog):
    image = torch.rand(3, 4, 4)
    like = Photo(image, exif=exif_block()[6:] + bytes(70000), xmp=b"x" * 70000, icc=ICC * 200)
    write_image(tmp_path / "a.jpg", image, like)
    again = read_image(tmp_path / "a.jpg")
    assert again.exif is None and again.xmp is None and again.icc == ICC * 200
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


# --- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "PNG", "tif", "tiff", "webp"])
def test_without_a_model_file(tmp_path, suffix):
    image = torch.rand(3, 11, 13)
    write_image(tmp_path / f"a.{suffix}", image)
    photo = read_image(tmp_path / f"a.{suffix}")
    error = (photo.image - image).abs()
    assert error.max() <= (1.0 if suffix.startswith("jp") else 0.5 / 255 + 1e-6)
    assert photo.mode == "rgb" and photo.bit_depth == 8


def test_values_round_to_nearest_and_clamp(tmp_path):
    values = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 254.49 / 255, 254.51 / 255, 7.0])
    write_image(tmp_path / "a.png", values.view(1, 1, 6).repeat(3, 1, 1))
    assert levels(read_image(tmp_path / "a.png").image)[0, :, 0].tolist() == [
        0,
        0,
        1,
        254,
        255,
        255,
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_and_gradients(tmp_path, dtype):
    image = torch.linspace(0, 1, 30).view(3, 2, 5).to(dtype)
    write_image(tmp_path / "a.png", image.clone().requires_grad_())
    expected = image.float().mul(255).add(0.5).floor().permute(1, 2, 0).numpy()
    assert np.array_equal(levels(read_image(tmp_path / "a.png").image), expected)


def test_suffix_names_the_format_else_the_model(tmp_path):
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "wrong.png", "JPEG")
    photo = read_image(tmp_path / "wrong.png")
    assert photo.format == "JPEG"
    write_image(tmp_path / "plain", photo.image, photo)
    write_image(tmp_path / "named.png", photo.image, photo)
    assert read_image(tmp_path / "plain").format == "JPEG"
    assert read_image(tmp_path / "named.png").format == "PNG"


def test_alpha_follows_a_larger_output_and_is_dropped_by_jpeg(tmp_path, caplog):
    Image.fromarray(noise(4, 6, 4)).save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", torch.rand(3, 8, 12), photo)
    assert read_image(tmp_path / "b.png").alpha.shape == (1, 8, 12)
    write_image(tmp_path / "b.jpg", photo.image, photo)
    assert read_image(tmp_path / "b.jpg").alpha is None and "alpha" in caplog.text


def test_depth_loss_is_logged(tmp_path, caplog):
    (tmp_path / "a.png").write_bytes(png_16(noise(4, 4, 3, np.uint16)))
    photo = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.webp", photo.image, replace(photo, lossless=True))
    assert "16 bits become 8" in caplog.text
    assert torch.allclose(read_image(tmp_path / "b.webp").image, photo.image, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_failure_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    target = tmp_path / f"a.{suffix}"
    write_image(target, torch.rand(3, 8, 8))
    old = target.read_bytes()

    def full_disk(file, *_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_io, "encode", full_disk)
    with pytest.raises(ImageError, match=r"a\..*cannot be written.*No space left"):
        write_image(target, torch.rand(3, 8, 8))
    assert target.read_bytes() == old and list(tmp_path.iterdir()) == [target]


def test_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(file, *_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(image_io, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", torch.rand(3, 8, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("a.png", torch.full((3, 2, 2), float("nan")), "not finite"),
        ("a.jpg", torch.full((3, 300, 2), float("inf")), "not finite"),
        ("a.png", torch.rand(1, 3, 2, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.rand(1, 2, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.rand(3, 0, 2), r"expected .* \(3, H, W\)"),
        ("a.png", torch.zeros(3, 2, 2, dtype=torch.uint8), "torch.uint8"),
        ("a.bmp", torch.rand(3, 2, 2), r"\.png"),
        ("a", torch.rand(3, 2, 2), r"\.png"),
        ("none/a.png", torch.rand(3, 2, 2), "folder does not exist"),
        ("folder.png", torch.rand(3, 2, 2), "a folder"),
        (f"{'n' * 300}.png", torch.rand(3, 2, 2), "cannot be written"),
        ("a.webp", torch.rand(3, 1, 16384), "at most 16383"),
        ("a.jpg", torch.rand(3, 65501, 1), "at most 65500"),
    ],
)
def test_write_refusals(tmp_path, name, image, reason):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=reason) as caught:
        write_image(tmp_path / name, image)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"cannot be written \(Not a directory\)"):
        write_image(tmp_path / "file" / "a.png", torch.rand(3, 2, 2))


# --- what cannot be read ----------------------------------------------------------------------


def refuse(path, reason, **options):
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(path, **options)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_empty_folder_text(tmp_path):
    refuse(tmp_path / "none.png", "no such file")
    refuse(tmp_path, "a folder")
    (tmp_path / "empty.png").touch()
    refuse(tmp_path / "empty.png", "empty file")
    (tmp_path / "text.jpg").write_text("no image\n")
    refuse(tmp_path / "text.jpg", "not an image")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.bmp")
    refuse(tmp_path / "a.bmp", "expected JPEG, PNG, TIFF or WebP")


def test_no_permission(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", denied)  # root may read whatever the mode says
    refuse(tmp_path / "a.png", "no permission")
    with pytest.raises(ImageError, match=r"cannot be written \(Permission denied\)"):
        write_image(tmp_path / "a.png", torch.rand(3, 2, 2))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif", "deep.png"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(tmp_path, name, part):
    source = tmp_path / name
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    if name == "deep.png":
        source.write_bytes(png_16(noise(64, 64, 3, np.uint16)))
    else:
        Image.fromarray(noise(64, 64, 3)).save(source, **options)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * part)])
    refuse(source, "damaged|truncated|not supported")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.tif"])
def test_random_damage_is_an_image_or_an_image_error(tmp_path, name):
    source = tmp_path / name
    if name == "deep.tif":
        tifffile.imwrite(source, noise(16, 16, 3, np.uint16), photometric="rgb")
    else:
        Image.fromarray(noise(16, 16, 3)).save(source, exif=exif_block(6))
    data = np.frombuffer(source.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = data.copy()
        places = rng.integers(0, min(len(data), 400), 4)
        damaged[places] = rng.integers(0, 256, 4)
        source.write_bytes(damaged.tobytes())
        try:
            image = read_image(source, max_pixels=10**6).image
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert image.min() >= 0 and image.max() <= 1


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    head = struct.pack(">IIBBBBB", 100000, 90000, 8, 2, 0, 0, 0)
    data = png_16(noise(2, 2, 3, np.uint16))
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "a.png").write_bytes(data[:16] + head + crc + data[33:])
    limit = Image.MAX_IMAGE_PIXELS
    refuse(tmp_path / "a.png", r"100000x90000 is 9000 megapixels.*limit of 400 \(max_pixels\)")
    assert limit == Image.MAX_IMAGE_PIXELS
    for name in ("b.jpg", "b.tif", "b.webp"):
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / name)
        refuse(tmp_path / name, "max_pixels", max_pixels=63)
        assert read_image(tmp_path / name, max_pixels=64).image.shape == (3, 8, 8)


def test_pillow_limit_does_not_matter(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.png", "a.tif"):
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    for name in ("a.jpg", "a.png", "a.tif"):
        assert read_image(tmp_path / name).image.shape == (3, 8, 8)


def test_first_frame_of_several(tmp_path, caplog):
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    for name in ("a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        caplog.clear()
        photo = read_image(tmp_path / name)
        assert np.array_equal(levels(photo.image), np.asarray(frames[0]))
        assert "first" in caplog.text


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.full((2, 2, 3), 1.5, np.float32), {"photometric": "rgb"}, "from 1.5 to 1.5"),
        (np.full((2, 2), np.nan, np.float32), {}, "nan"),
        (np.ones((2, 2), np.int16), {}, "int16"),
        (np.ones((2, 2), np.uint32), {}, "uint32"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "cielab"}, "LAB"),
        (np.ones((2, 2), np.complex64), {}, "complex64"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "rgb", "subfiletype": 1}, "camera raw"),
    ],
)
def test_unusual_tiffs_are_refused(tmp_path, pixels, options, reason):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    refuse(tmp_path / "a.tif", reason)


# --- folders ----------------------------------------------------------------------------------


def test_list_images(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".trash").mkdir()
    names = ["b.JPG", "a.png", "notes.txt", "._a.png", "sub/c.webp", ".trash/d.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == [
        "a.png",
        "b.JPG",
        "c.webp",
    ]
    assert list_images(str(tmp_path / "a.png")) == [tmp_path / "a.png"]
    assert set(IMAGE_SUFFIXES) >= {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}


def test_list_images_refusals(tmp_path):
    with pytest.raises(ImageError, match="no such file or folder"):
        list_images(tmp_path / "none")
    with pytest.raises(ImageError, match="no images in it"):
        list_images(tmp_path)
    with pytest.raises(ImageError, match="cannot be listed"):
        list_images(tmp_path / ("n" * 300))
