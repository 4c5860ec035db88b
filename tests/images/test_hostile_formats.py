"""Damaged AVIF, HEIC, JPEG XL and raw files give one line; large claims are refused at once."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from types import ModuleType

import format_files as files
import numpy as np
import pytest
from image_cases import ICC
from PIL import Image

from refusion.errors import ImageError
from refusion.images.av1_size import frame_size
from refusion.images.io import read_arrays

MUTATIONS = 60  # of each kind; the page names the number of a longer run


def _avif():
    return files.deep_avif(files.ramp(dtype=np.uint16) >> 6, 10)


def _heic():
    return files.heic(files.ramp(), lossless=False, exif=files.exif(6), xmp=files.XMP)


def _jxl():
    return files.jxl(files.ramp(), icc=ICC, xmp=files.XMP, block=files.exif()[6:], compressed=True)


def _dng():
    return files.dng(np.full((48, 64, 3), 0.3))


KINDS = {".avif": _avif, ".heic": _heic, ".jxl": _jxl, ".dng": _dng}


def outcome(path, data, **limits):
    """None for a photo, or the message, which must be one line that names the file."""
    path.write_bytes(data)
    try:
        read_arrays(path, **limits)
    except ImageError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return str(error)
    return None


def changed(data, generator):
    """A copy with a few changes, most of them in its header."""
    data = bytearray(data)
    reach = len(data) if generator.random() < 0.5 else min(len(data), 600)
    for _ in range(generator.choice((1, 1, 2, 8))):
        at, kind = generator.randrange(reach), generator.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes((generator.randrange(256),))
        elif kind == 1:
            data[at : at + 4] = generator.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        elif kind == 2:
            del data[at : at + generator.randrange(1, 40)]
        else:
            data[at:at] = generator.randbytes(generator.randrange(1, 20))
    return bytes(data[: generator.randrange(len(data))] if generator.random() < 0.1 else data)


@pytest.mark.parametrize("suffix", KINDS)
def test_changed_files_give_a_photo_or_one_line(tmp_path, suffix, capfd):
    data = KINDS[suffix]()
    found = []
    for seed in range(MUTATIONS):
        hostile = changed(data, random.Random(seed))
        found.append(outcome(tmp_path / f"a{suffix}", hostile, max_pixels=10**7))
    assert any(message is not None for message in found)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", KINDS)
def test_truncated_files_give_one_line(tmp_path, suffix, part):
    data = KINDS[suffix]() if suffix != ".jxl" else files.jxl(files.ramp(), xmp=files.XMP)
    assert outcome(tmp_path / f"a{suffix}", data[: int(part * len(data))]) is not None


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_a_large_size_in_the_boxes_is_refused_at_once(tmp_path, suffix):
    data = KINDS[suffix]()
    at = data.index(b"ispe") + 8
    huge = data[:at] + struct.pack(">II", 100_000, 100_000) + data[at + 8 :]
    message = outcome(tmp_path / f"a{suffix}", huge)
    assert "100000x100000 is 10000 megapixels, more than the limit of 400" in message
    message = outcome(tmp_path / f"a{suffix}", huge, max_pixels=10**11, max_memory=10**9)
    assert "max memory: decoding 100000x100000 pixels" in message


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_a_stream_larger_than_its_box_says_is_refused(tmp_path, suffix):
    data = KINDS[suffix]()
    at = data.index(b"ispe") + 8
    small = data[:at] + struct.pack(">II", 8, 8) + data[at + 8 :]
    message = outcome(tmp_path / f"a{suffix}", small)
    assert "different sizes" in message or "Security limit" in message or "Invalid" in message


def test_a_large_size_in_a_jxl_is_refused_at_once(tmp_path):
    # Signature, then: not small, height of 30 bits, no ratio, width of 30 bits, all defaults.
    size = (2**27 - 1) << 3 | 3 << 1
    bits = size | (3 | (2**27 - 1) << 2) << 36 | 1 << 68
    data = b"\xff\x0a" + bits.to_bytes(20, "little")
    message = outcome(tmp_path / "a.jxl", data)
    assert "134217728x134217728 is 1.80144e+10 megapixels" in message


def test_many_items_and_loops_of_references_end(tmp_path):
    def box(kind, content):
        return struct.pack(">I4s", len(content) + 8, kind) + content

    infe = box(b"infe", struct.pack(">IHH4sB", 2 << 24, 1, 0, b"av01", 0))
    links = struct.pack(">II", 0, 0xFFFFFFFF) + struct.pack(">HB", 1, 255) + bytes(255)
    meta = box(b"pitm", struct.pack(">IH", 0, 1))
    meta += box(b"iinf", struct.pack(">IH", 0, 65535) + infe * 3000)
    meta += box(b"iloc", b"\1\0\0\0\x44\x44" + struct.pack(">H", 65535))
    meta += box(b"iref", bytes(4) + box(b"cdsc", struct.pack(">HHH", 1, 1, 1)) * 1000)
    meta += box(b"iprp", box(b"ipco", box(b"free", b"") * 9) + box(b"ipma", links))
    data = box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", bytes(4) + meta)
    assert "damaged boxes" in outcome(tmp_path / "a.avif", data)
    endless = struct.pack(">I4s", 0, b"free")  # reaches to the end of the file
    assert outcome(tmp_path / "b.avif", box(b"ftyp", b"avif\0\0\0\0avif") + endless) is not None


def test_damaged_metadata_is_dropped_with_a_warning(tmp_path, caplog):
    data = _jxl()
    at = data.index(b"brobExif") + 10
    broken = data[:at] + b"\xff\xff\xff" + data[at + 3 :]
    assert outcome(tmp_path / "a.jxl", broken) is None
    assert "damaged EXIF block" in caplog.text


def _forged_avif(frames=1, before=b""):
    """An AVIF of 96x96 pixels whose boxes state 64x64, and whose streams begin with some bytes."""
    images = [Image.new("RGB", (96, 96), (40 * index,) * 3) for index in range(frames)]
    file = io.BytesIO()
    images[0].save(file, "AVIF", save_all=frames > 1, append_images=images[1:])
    data = file.getvalue()
    at = data.index(b"ispe") + 8
    data = data[:at] + struct.pack(">II", 64, 64) + data[at + 8 :]
    if not before:
        return data
    begin = data.index(b"mdat") + 4
    old, new = len(data) - begin, len(data) - begin + len(before)
    place = data.index(struct.pack(">I", old), data.index(b"iloc"))
    data = data[:place] + struct.pack(">I", new) + data[place + 4 : begin] + before + data[begin:]
    return data[: begin - 8] + struct.pack(">I", new + 8) + data[begin - 4 :]


@pytest.mark.parametrize("units", [1, 9, 20_000])
def test_padding_does_not_hide_the_size_of_an_avif_stream(tmp_path, units):
    message = outcome(tmp_path / "a.avif", _forged_avif(before=b"\x7a\0" * units))
    assert "different sizes" in message or "too many parts" in message


def test_every_sequence_header_of_an_av1_stream_counts():
    def header(side):  # a short header of a still picture
        bits = f"000{1:b}{1:b}{0:05b}{15:04b}{15:04b}{side - 1:016b}{side - 1:016b}".ljust(56, "0")
        return b"\x0a" + bytes((7,)) + int(bits, 2).to_bytes(7, "big")

    assert frame_size(header(64)) == (64, 64)
    assert frame_size(header(64) + b"\x12\0" + header(4000)) == (4000, 4000)
    with pytest.raises(ValueError, match="truncated"):
        frame_size(header(64)[:5])


def test_timing_in_an_av1_stream_does_not_hide_its_size():
    bits = "000" + "0" + "0"  # profile, not a still picture, a full header
    bits += "1" + f"{1:032b}{25:032b}" + "1" + "00101" + "1" + f"{4:05b}{1:032b}{9:05b}{9:05b}"
    bits += "1" + f"{0:05b}" + f"{0:012b}{8:05b}0" + "1" + "0" * 11 + "1" + "0000"
    bits += f"{15:04b}{15:04b}{2999:016b}{1999:016b}"
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert frame_size(b"\x0a" + bytes((len(content),)) + content) == (3000, 2000)


def test_an_animated_avif_gives_its_first_frame(tmp_path):
    """In a process of its own: the decoder would overwrite memory and end the program."""
    images = [Image.new("RGB", (500, 400), (level,) * 3) for level in (200, 40)]
    images[0].save(tmp_path / "a.avif", save_all=True, append_images=images[1:])
    assert (tmp_path / "a.avif").read_bytes()[8:12] == b"avis"
    program = (
        "import sys; from refusion.images.io import read_arrays\n"
        "photo = read_arrays(sys.argv[1]); print(photo.samples.shape, photo.samples.mean())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.avif")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    shape, mean = found.stdout.rsplit(" ", 1)
    assert shape == "(3, 400, 500)" and abs(float(mean) - 200) < 2


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_of_many_gigabytes_is_refused_before_it_is_read(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(KINDS[suffix]())
    os.truncate(path, 3 << 30)  # has no blocks on the disk
    for module in ("imagecodecs", "pillow_heif", "rawpy"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))  # nothing is decoded
    with pytest.raises(ImageError, match=r"3\.0 GB, expected at most 1\.0|3072\.0 MB, expected"):
        read_arrays(path)


def test_the_limit_of_the_memory_holds_for_the_bytes_of_camera_raw(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(_dng())
    os.truncate(path, 50 << 20)
    with pytest.raises(ImageError, match=r"camera raw of 50\.0 MB, expected at most 33\.3 MB"):
        read_arrays(path, max_memory=100 << 20)


def test_a_plain_tiff_with_a_name_of_camera_raw_is_explained(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    pytest.importorskip("rawpy")
    assert "rename a plain TIFF to NAME.tif" in outcome(tmp_path / "a.nef", file.getvalue())
