"""What cannot be read is one clear error; folders are listed."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
import torch
from image_cases import (
    exif_block,
    levels,
    noise,
    png_16,
)
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.listing import IMAGE_SUFFIXES, list_images


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
    refuse(
        tmp_path / "text.jpg", "expected JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG XL or camera raw"
    )


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC or AVIF without an image|needs the package"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "a HEIC or AVIF without an image"),
        (b"GIF89a", "GIF is not supported"),
        (b"BM\x3a\0\0\0\0\0", "BMP is not supported"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL without pixels"),
        (b"\0\0\0\x18ftypcrx ", "camera raw: not a raw photo|needs the package rawpy"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw: not a raw photo|needs the package rawpy"),
        (b"FUJIFILMCCD-RAW 0201", "camera raw: not a raw photo|needs the package rawpy"),
        (b"IIU\0\x18\0\0\0", "camera raw: not a raw photo|needs the package rawpy"),
    ],
)
def test_other_kinds_are_named_with_what_to_do(tmp_path, head, words):
    """Whatever the suffix says: phones send HEIC under the name of a JPEG."""
    (tmp_path / "a.jpg").write_bytes(head + bytes(500))
    refuse(tmp_path / "a.jpg", words)


def test_no_permission(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    # Root may read and write whatever the mode says.
    monkeypatch.setattr("refusion.images.io.open_regular", denied)
    monkeypatch.setattr(type(tmp_path), "open", denied)
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
    refuse(tmp_path / "a.png", r"100000x90000 is 9000 megapixels.*limit of 400 \(--max-pixels\)")
    assert limit == Image.MAX_IMAGE_PIXELS
    for name in ("b.jpg", "b.tif", "b.webp"):
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / name)
        refuse(tmp_path / name, "6.4e-05 megapixels.*--max-pixels", max_pixels=63)
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
        (np.full((2, 2), np.nan, np.float32), {}, "infinite or not a number"),
        (np.full((2, 2), -np.inf, np.float32), {}, "infinite or not a number"),
        (np.ones((2, 2), np.int16), {}, "int16"),
        (np.ones((2, 2), np.uint32), {}, "uint32"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "cielab"}, "LAB .*; save it as RGB or gray"),
        (np.ones((2, 2), np.complex64), {}, "complex64"),
        (np.ones((2, 2, 3), np.uint8), {"photometric": "rgb", "subfiletype": 1}, "camera raw"),
    ],
)
def test_unusual_tiffs_are_refused(tmp_path, pixels, options, reason):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    refuse(tmp_path / "a.tif", reason)


@pytest.mark.parametrize("bits", [24, 12])
def test_24_bits_are_refused_and_12_bits_are_scaled(tmp_path, bits):
    """Pillow reads 12 bits into the lower bits of 16, a photo that is nearly black."""
    width, height, page = 4, 2, ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    page[256], page[257], page[258], page[259], page[262] = width, height, (bits,), 1, 1
    page[277], page[278], page.tagtype[273], page.tagtype[279] = 1, height, 4, 4
    page[273], page[279] = (0,), (width * height * bits // 8,)
    with (tmp_path / "a.tif").open("wb") as file:
        page.save(file)
        file.write(b"\xff" * bits)
    if bits == 24:
        refuse(tmp_path / "a.tif", "samples are uint24, expected uint8, uint16 or float")
        return
    photo = read_image(tmp_path / "a.tif")
    assert photo.bit_depth == 16 and torch.equal(photo.image, torch.ones(3, height, width))


def test_a_damaged_tag_without_a_name_is_one_line(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((2, 2, 3), np.uint8), photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = data.index(struct.pack("<HHI", 262, 3, 1))  # PhotometricInterpretation
    struct.pack_into("<H", data, at + 8, 777)
    (tmp_path / "a.tif").write_bytes(data)
    refuse(tmp_path / "a.tif", "777 TIFF with 8 bits")


def test_what_a_library_finds_odd_does_not_reach_the_terminal(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((40, 40, 3), np.uint8), photometric="rgb")
    data = (tmp_path / "a.tif").read_bytes()
    at = struct.unpack_from("<I", data, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]  # where the next page is said to be
    odd = data[:end] + struct.pack("<I", len(data) + 99) + data[end + 4 :]
    (tmp_path / "a.tif").write_bytes(odd)
    code = "import sys; from refusion.images.io import read_image; read_image(sys.argv[1])"
    command = [sys.executable, "-c", code, tmp_path / "a.tif"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


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
