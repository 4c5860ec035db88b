"""AVIF, HEIC and JPEG XL: pixels, depth, orientation, colour and metadata, in and out."""

from __future__ import annotations

import io
import struct

import format_files as files
import numpy as np
import pytest
from image_cases import ICC, levels
from PIL import Image, features

from refusion.errors import ImageError
from refusion.images import packages
from refusion.images.colour import rec2020_profile, srgb_primaries_profile
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


GRAY_ICC = srgb_primaries_profile(1.8, is_gray=True)


@pytest.fixture
def place(tmp_path):
    def read(name, data):
        (tmp_path / name).write_bytes(data)
        return read_image(tmp_path / name)

    return read


def rewritten(tmp_path, photo, suffix):
    write_image(tmp_path / f"result{suffix}", photo.samples, photo)
    return read_image(tmp_path / f"result{suffix}")


def distance(photo, pixels):
    """Largest distance of the samples of a photo from (H, W, C) samples, of the full range."""
    full = np.iinfo(pixels.dtype).max
    return np.abs(photo.image.permute(1, 2, 0).numpy() - pixels / full).max()


# --- HEIC ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_heic_is_read_exactly(place, channels):
    pixels = files.ramp(channels=channels)
    photo = place("a.heic", files.heic(pixels))
    colours = 3 if channels > 2 else 1
    assert np.array_equal(levels(photo.image)[..., :colours], pixels[..., :colours])
    assert (photo.bit_depth, photo.coded_depth, photo.format) == (8, 0, "JPEG")
    assert photo.mode == ("rgb" if channels > 2 else "gray")
    assert (photo.alpha is not None) == (channels == 4)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_heic_keeps_its_depth_as_16_bits(place, tmp_path, caplog, bits):
    pixels = files.ramp(dtype=np.uint16)
    photo = place("a.heic", files.heic(pixels, bits=bits))
    full = 2**bits - 1
    stored = pixels >> (16 - bits)  # pillow-heif cuts the lower bits
    assert np.array_equal(levels(photo.image, 16), np.rint(stored / full * 65535))
    assert (photo.bit_depth, photo.coded_depth) == (16, bits)
    again = rewritten(tmp_path, photo, ".avif")
    assert (again.bit_depth, again.coded_depth) == (16, bits) and "become" not in caplog.text
    assert distance(again, pixels) < 0.02
    write_image(tmp_path / "b.jpg", photo.samples, photo)
    assert "16 bits become 8, the most for JPEG" in caplog.text


def test_heic_keeps_its_metadata_and_is_turned_once(place):
    data = files.heic(
        files.ramp(), exif=files.exif(6), xmp=files.XMP, icc_profile=ICC, lossless=False
    )
    photo = place("a.heic", data)
    assert photo.samples.shape == (3, 32, 24) and photo.icc == ICC and photo.xmp == files.XMP
    block = Image.Exif()
    block.load(photo.exif)
    assert block[files.COPYRIGHT] == "(c) Io" and block.get(files.ORIENTATION, 1) == 1
    upright = files.ramp().transpose(1, 0, 2)[:, ::-1]
    assert distance(photo, upright) < 0.1


def test_the_package_of_heic_is_named(place, monkeypatch):
    monkeypatch.setattr(packages, "_is_there", lambda module: module != "pillow_heif")
    with pytest.raises(
        ImageError, match=r"a.heic: HEIC needs the package pillow-heif; install it "
    ):
        place("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0heic" + bytes(99))


# --- AVIF ----------------------------------------------------------------------------------------


@needs_avif
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_is_read_as_pillow_reads_it(place, channels):
    data = files.avif(files.ramp(channels=channels))
    photo = place("a.avif", data)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
        alpha = np.asarray(image)[..., 3] if channels == 4 else None
    assert np.array_equal(levels(photo.image), expected)
    assert (photo.mode, photo.format) == ("rgb", "AVIF")  # Pillow writes gray as RGB
    if channels == 4:
        assert np.array_equal(levels(photo.alpha)[..., 0], alpha)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_is_read_and_written_with_its_depth(place, tmp_path, caplog, bits):
    full = 2**bits - 1
    pixels = files.ramp(dtype=np.uint16) >> (16 - bits)
    photo = place("a.avif", files.deep_avif(pixels, bits))
    assert (photo.bit_depth, photo.coded_depth) == (16, bits)
    assert np.abs(levels(photo.image, 16) / 65535 - pixels / full).max() < 0.01
    again = rewritten(tmp_path, photo, ".avif")
    assert again.coded_depth == bits and caplog.text == ""


@needs_avif
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_an_avif_counts_once(place, orientation):
    pixels = files.ramp(16, 24)
    data = files.avif(pixels, exif=files.exif(orientation))  # Pillow writes irot and imir
    photo = place("a.avif", data)
    exif = Image.Exif()
    exif[files.ORIENTATION] = orientation
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels[::-1].transpose(1, 0, 2),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: pixels[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    assert photo.samples.shape[1:] == turned.shape[:2] and distance(photo, turned) < 0.1
    block = Image.Exif()
    block.load(photo.exif)
    assert block.get(files.ORIENTATION, 1) == 1 and block[files.COPYRIGHT] == "(c) Io"


@needs_avif
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_programs_read_our_avif(tmp_path, caplog, channels, dtype):
    pixels = files.ramp(channels=channels, dtype=dtype)
    like = _photo(pixels, icc=ICC if channels > 2 else None, xmp=files.XMP)
    write_image(tmp_path / "a.avif", like.samples, like)
    with Image.open(tmp_path / "a.avif") as image:
        found = np.asarray(image.convert("RGBA" if channels in (2, 4) else "RGB"))
        info, block = dict(image.info), image.getexif()
    assert read_image(tmp_path / "a.avif").mode == like.mode
    assert info.get("icc_profile") == like.icc and info["xmp"] == files.XMP
    assert block[files.COPYRIGHT] == "(c) Io" and block[files.MAKER] == "Maker"
    full = np.iinfo(dtype).max
    if channels < 3:
        pixels = pixels[..., [0, 0, 0, *range(1, channels)]]
    assert np.abs(found / 255 - pixels / full).max() < 0.05
    assert ("16 bits become 10 for AVIF" in caplog.text) == (dtype == np.uint16)


@pytest.mark.parametrize("quality", [80, 90])
def test_avif_results_have_no_tint(tmp_path, quality):
    """The conversion to brightness and colour differences rounds to the nearest value."""
    files.package("imagecodecs")
    photo = Photo(_photo(files.ramp(96, 128)).samples, quality=quality)
    again = rewritten(tmp_path, photo, ".avif")
    tint = (again.image - photo.image).mean((1, 2)).numpy() * 255
    assert np.abs(tint).max() < 0.3


@needs_avif
def test_avif_quality_and_code_points(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    like = _photo(pixels)
    sizes = {}
    for quality in (20, 60, 95, None):
        photo = Photo(like.samples, quality=quality)
        write_image(tmp_path / "a.avif", photo.samples, photo)
        sizes[quality] = (tmp_path / "a.avif").stat().st_size
    assert sizes[20] < sizes[60] < sizes[None] < sizes[95]
    chunk = struct.pack(">I", 4) + b"cICP" + bytes((9, 16, 0, 1)) + bytes(4)  # Rec. 2020, PQ
    photo = Photo(like.samples, png_colour=chunk)
    again = rewritten(tmp_path, photo, ".avif")
    assert again.png_colour[8:12] == bytes((9, 16, 0, 1)) and again.icc is None


# --- JPEG XL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_jxl_keeps_every_sample_and_the_profile(tmp_path, channels, dtype):
    if channels > 2:
        files.package("pylibjxl")  # reads the profile
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, (31, 45, channels))
    pixels = pixels.astype(dtype)
    like = _photo(pixels, icc=ICC if channels > 2 else None, xmp=files.XMP)
    again = rewritten(tmp_path, like, ".jxl")
    assert np.array_equal(again.samples.numpy(), like.samples.numpy())
    assert again.samples.dtype == like.samples.dtype and again.lossless
    assert (again.mode, again.xmp, again.exif) == (like.mode, like.xmp, like.exif)
    if channels in (2, 4):
        assert np.array_equal(again.alpha.numpy(), like.alpha.numpy())
    assert again.icc == like.icc


LONG_ICC = struct.pack(">I", len(ICC) + 70_000) + ICC[4:] + bytes(70_000)


@pytest.mark.parametrize("icc", [None, ICC, LONG_ICC])
@pytest.mark.parametrize("lossless", [True, False])
def test_another_decoder_reads_our_jxl(tmp_path, icc, lossless):
    pylibjxl = files.package("pylibjxl")
    pixels = files.ramp()
    like = _photo(pixels, icc=icc, xmp=files.XMP, lossless=lossless)
    write_image(tmp_path / "a.jxl", like.samples, like)
    found, blocks = pylibjxl.decode((tmp_path / "a.jxl").read_bytes(), metadata=True)
    expected = pixels
    if icc is not None and not lossless:  # without colour management it returns linear light
        light = pixels / 255
        light = np.where(light > 0.04045, ((light + 0.055) / 1.055) ** 2.4, light / 12.92)
        expected = np.rint(255 * light)
    assert np.abs(found.astype(int) - expected).max() <= (0 if lossless else 10)
    assert blocks.get("icc") == icc and blocks["xmp"] == files.XMP and blocks["exif"] == like.exif


def test_jxl_files_of_another_encoder(place):
    pixels = files.ramp()
    block = files.exif(6)[6:]
    for compressed in (True, False):
        data = files.jxl(pixels, icc=ICC, xmp=files.XMP, block=block, compressed=compressed)
        photo = place("a.jxl", data)
        assert np.array_equal(levels(photo.image), pixels)  # EXIF does not turn a JPEG XL
        assert photo.icc == ICC and photo.xmp == files.XMP and photo.lossless
        assert photo.exif is not None and len(photo.exif) == len(block)


@pytest.mark.parametrize("size", [(24, 32), (7, 9), (300, 70), (8, 9000), (520, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossy_jxl_keeps_colours_outside_srgb(tmp_path, size, dtype, channels):
    """A decoder returns linear light for a lossy file with a profile, which is not that space."""
    files.package("pylibjxl")
    pixels = (
        files.ramp(*size, channels, dtype) if max(size) < 100 else _tiled(*size, channels, dtype)
    )
    icc = rec2020_profile() if channels > 2 else GRAY_ICC
    like = _photo(pixels, icc=icc, lossless=False, quality=98)
    again = rewritten(tmp_path, like, ".jxl")
    assert again.icc == icc and again.bit_depth == 8 * dtype().itemsize
    assert again.lossless == (channels == 4)  # alpha beside a profile makes the file lossless
    full = np.iinfo(dtype).max
    apart = again.samples.numpy().astype(float) - like.samples.numpy()
    assert np.abs(apart).mean() / full < 0.004 and np.abs(apart).max() / full < 0.15
    if channels == 4:
        assert (again.alpha - like.alpha).abs().max() < 0.02


def _tiled(height, width, channels, dtype):
    part = files.ramp(16, 16, channels, dtype)
    return np.tile(part, (-(-height // 16), -(-width // 16), 1))[:height, :width]


def test_lossy_jxl_with_a_profile_is_as_small_as_without(tmp_path):
    pixels = np.random.default_rng(3).normal(128, 30, (200, 200, 3)).clip(0, 255).astype(np.uint8)
    sizes = []
    for icc in (None, ICC):
        like = _photo(pixels, icc=icc, lossless=False)
        write_image(tmp_path / "a.jxl", like.samples, like)
        sizes.append((tmp_path / "a.jxl").stat().st_size)
    assert sizes[1] - len(ICC) < 1.05 * sizes[0]


def test_a_jpeg_inside_a_jxl_is_lossy(place):
    imagecodecs = files.package("imagecodecs")
    file = io.BytesIO()
    Image.fromarray(files.ramp()).save(file, "JPEG", quality=90)
    photo = place("a.jxl", imagecodecs.jpegxl_encode_jpeg(file.getvalue(), usecontainer=True))
    assert not photo.lossless and distance(photo, np.asarray(Image.open(file))) < 0.02


def test_jxl_states_the_colour_space_of_its_header(place):
    imagecodecs = files.package("imagecodecs")
    linear = bytes(imagecodecs.jpegxl_encode(files.ramp(dtype=np.uint16), lossless=True))
    assert place("a.jxl", linear).png_colour[8:12] == bytes((1, 8, 0, 1))  # sRGB, linear light
    plain = bytes(imagecodecs.jpegxl_encode(files.ramp(), lossless=True))
    assert place("a.jxl", plain).png_colour == b""


def test_float_jxl_is_read_with_32_bits_and_clipped(place, caplog):
    imagecodecs = files.package("imagecodecs")
    pixels = np.linspace(0, 1.5, 24 * 32 * 3, dtype=np.float32).reshape(24, 32, 3)
    photo = place("a.jxl", bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)))
    assert photo.bit_depth == 32 and "from 0 to 1.5 are clipped to [0, 1] (33 %" in caplog.text
    assert np.abs(photo.image.permute(1, 2, 0).numpy() - pixels.clip(0, 1)).max() < 1e-6


def test_the_package_of_a_jxl_with_a_profile_is_named(place, monkeypatch):
    data = files.jxl(files.ramp(), icc=ICC)
    monkeypatch.setattr(packages, "_is_there", lambda module: module != "pylibjxl")
    with pytest.raises(ImageError, match="JPEG XL with an ICC profile needs the package pylibjxl"):
        place("a.jxl", data)


def test_a_profile_that_does_not_fit_is_dropped_from_a_jxl(tmp_path, caplog):
    for icc in (b"x" * 50, b"x" * 500, files.cmyk_profile()):
        like = _photo(files.ramp(), icc=icc)
        again = rewritten(tmp_path, like, ".jxl")
        assert again.icc is None and np.array_equal(again.samples, like.samples)
    assert caplog.text.count("ICC profile that is damaged or for other colours") == 3
    files.package("pylibjxl")
    like = _photo(files.ramp(), icc=ICC + bytes(9), lossless=False)  # longer than it says
    assert distance(rewritten(tmp_path, like, ".jxl"), files.ramp()) < 0.04


def test_jxl_quality(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = {}
    for quality in (20, 60, 90, None):
        photo = Photo(_photo(pixels).samples, quality=quality)
        write_image(tmp_path / "a.jxl", photo.samples, photo)
        sizes[quality] = (tmp_path / "a.jxl").stat().st_size
    assert sizes[20] < sizes[60] < sizes[90] < sizes[None]


def _photo(pixels, **properties):
    """Photo of (H, W, C) samples with an EXIF block."""
    import torch

    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    channels = len(planes)
    colour = planes[:3] if channels > 2 else planes[:1].expand(3, -1, -1)
    alpha = planes[-1:].float() / np.iinfo(pixels.dtype).max if channels in (2, 4) else None
    mode = "rgb" if channels > 2 else "gray"
    depth = pixels.dtype.itemsize * 8
    block = files.exif()[6:]
    return Photo(colour, alpha, mode=mode, bit_depth=depth, exif=block, **properties)
