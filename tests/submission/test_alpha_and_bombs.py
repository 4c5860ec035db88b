"""Alpha of outputs, and entries made to crash, to fill the memory or to trick a terminal."""

import io
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from refusion import cli
from refusion.errors import ConfigError, ImageError
from refusion.submission import check
from refusion.submission.check import check_submission
from refusion.submission.pack import Facts, readme, write_submission
from refusion.submission.tracks import README, TRACKS

DEHAZE = TRACKS["dehaze"]
SIZE = (9, 7)


def with_alpha(mode, levels):
    """PNG whose alpha has these levels and 255; or a palette or colour that is transparent."""
    alpha = np.full(SIZE[::-1], 255, np.uint8)
    alpha[-1, -len(levels) :] = levels
    data, options = io.BytesIO(), {}
    if mode in ("RGBA", "LA"):
        image = Image.new(mode[:-1], SIZE)
        image.putalpha(Image.fromarray(alpha))
    else:
        image = Image.new(mode, SIZE)
        options = {"transparency": {"P": bytes(levels), "RGB": (0, 0, 0), "L": 0}[mode]}
    image.save(data, "PNG", **options)
    return data.getvalue()


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(mode="RGB", size=SIZE):
    data = io.BytesIO()
    Image.new(mode, size).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Write the input 01.png and an archive with the given outputs; returns the faults."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/01.png").write_bytes(png())

    def faults(files, input_photo=None, track=DEHAZE):
        if input_photo is not None:
            Path("in/01.png").write_bytes(input_photo)
        facts = Facts(1.5, True, False, "Refusion")
        with zipfile.ZipFile("e.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in ({README: readme(track, facts).encode()} | files).items():
                file.writestr(name, data)
        found = check_submission("e.zip", "in", track)
        assert all(fault.isprintable() and len(fault) < 400 for fault in found)
        return found

    return faults


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([255], []),
        ([254], ["01.png: has an alpha channel that is not opaque"]),
        ([0, 255], ["01.png: has an alpha channel that is not opaque"]),
        ([0] * 9, ["01.png: has an alpha channel that is not opaque"]),
    ],
)
def test_alpha_of_an_output_must_be_opaque_everywhere(entry, levels, expected):
    output = with_alpha("RGBA", levels)
    assert Image.open(io.BytesIO(output)).getchannel("A").getextrema() == (min(levels), 255)
    assert entry({"01.png": output}, png("RGBA")) == expected
    assert entry({"01.png": output}, png("RGB")) == ["01.png: is RGBA, expected RGB"]


@pytest.mark.parametrize("levels", [[255], [254], [0, 255]])
@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "L"])
def test_other_kinds_of_alpha_are_never_allowed(entry, mode, levels):
    """Gray with alpha, and a palette or a colour that is transparent."""
    end = "" if mode == "LA" else " with a transparent colour"
    faults = entry({"01.png": with_alpha(mode, levels)}, png("RGBA"))
    assert faults == [f"01.png: is {mode}{end}, expected RGB"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_alpha_of_an_input_has_many_kinds(entry, mode):
    assert entry({"01.png": with_alpha("RGBA", [255])}, with_alpha(mode, [0])) == []
    assert entry({"01.png": png()}, with_alpha(mode, [0])) == []


def bombs():
    """Outputs that unpack to far more than their size, in formats that are not expected, too."""
    tiff = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = "six"
    tags.tagtype[274] = 2
    Image.new("RGB", SIZE).save(tiff, "TIFF", tiffinfo=tags)
    good = png()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0")
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    huge = good[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return {
        "orientation of a TIFF": (tiff.getvalue(), "is TIFF, expected PNG"),
        "orientation of a PNG": (good[:33] + exif + good[33:], None),
        "text of 100 MB": (good[:33] + text + good[33:], "cannot be decoded: "),
        "60,000 pixels": (huge, "is 60000x60000, expected 9x7"),
        "GIF": (b"GIF89a\xff\xff\xff\xff\0\0\0" + bytes(100), "cannot be decoded: not an image"),
        "BMP": (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2**30, 2**30, 1, 24, 0), "01.png"),
        "nothing": (b"", "cannot be decoded: "),
    }


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_faults(entry, name):
    data, expected = bombs()[name]
    faults = entry({"01.png": data})
    if expected is None:
        assert faults == []
    else:
        (fault,) = faults
        assert expected in fault


def test_names_of_files_are_short_and_safe(entry, capsys):
    names = ["\x1b]0;x\x07\x1b[2J.png", "\u202egnp.exe", "a" * 20000, "\r\n01.png", "\x9b31m"]
    faults = entry({"01.png": png()} | dict.fromkeys(names, b""))
    assert len(faults) == len(names)
    assert faults[0] == (
        "'\\x1b]0;x\\x07\\x1b[2J.png': not allowed: it is not the output of any input"
    )
    assert all(len(fault) < 200 for fault in faults)
    many = {f"\x1b{number}{'b' * 900}": b"" for number in range(900)}
    assert len(entry({"01.png": png()} | many)) == 900
    assert cli.main(["check-submission", "e.zip", "--inputs", "in", "--track", "dehaze"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.endswith("\nand 800 more faults\ne.zip: 900 faults, track dehaze\n")


def test_a_huge_directory_is_not_read(entry, monkeypatch):
    monkeypatch.setattr(check, "_DIRECTORY_BYTES", 100)
    (fault,) = entry({"01.png": png()} | {f"{n}{'c' * 5000}": b"" for n in range(50)})
    assert fault == "not a readable zip: its directory has more than 100200 bytes"
    assert entry({"01.png": png()}) == []


def test_the_content_of_copies_is_not_decoded(entry):
    """A thousand large images under one name would take minutes."""
    size = (3000, 3000)
    entry({"01.png": png(size=size)}, png(size=size))
    with zipfile.ZipFile("e.zip", "a") as file:
        for _ in range(200):
            with pytest.warns(UserWarning, match="Duplicate"):
                file.writestr("01.png", b"x")
    start = time.process_time()
    assert check_submission("e.zip", "in", DEHAZE) == ["'01.png': 201 times"]
    assert time.process_time() - start < 2


def test_an_input_that_cannot_be_read_is_named(entry):
    with pytest.raises(ImageError, match=r"in/01\.png"):
        entry({"01.png": png()}, b"no photo")
    tiff = bombs()["orientation of a TIFF"][0]
    Path("in/01.png").unlink()
    Path("in/01.tif").write_bytes(tiff)
    assert (
        check_submission("e.zip", "in", DEHAZE) == []
    )  # an orientation that is a text counts as 1


def test_little_memory_is_no_fault_of_the_entry(entry, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(check, "open_image", no_memory)
    monkeypatch.setattr(check, "_has_alpha", lambda _: False)
    with pytest.raises(MemoryError):
        entry({"01.png": png()})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
def test_an_archive_that_is_a_pipe_is_refused(entry):
    os.mkfifo("p.zip")
    (fault,) = check_submission("p.zip", "in", DEHAZE)
    assert fault == "not a readable zip: is a pipe, expected a regular file"


def deep_png():
    """16-bit PNG, as chunks behind the signature."""
    head = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 6 * SIZE[0]) * SIZE[1])
    return chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"tEXt", bytes([8]) * 20),  # where the bit depth of a usual file is
        chunk(b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)),
    ],
)
def test_16_bits_are_seen_behind_another_chunk(entry, before):
    fault = "01.png: cannot be decoded: expected one chunk IHDR, before all others"
    assert entry({"01.png": png()[:8] + before + deep_png()}) == [fault]
    assert entry({"01.png": png()[:8] + deep_png()}) == [
        "01.png: has 16 bits per sample, expected 8"
    ]


@pytest.mark.parametrize("photo", [png(), with_alpha("RGBA", [255])])
def test_large_photos_are_no_bombs(entry, monkeypatch, photo):
    """Pillow refuses photos of more than twice this number of pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    Path("result.png").write_bytes(photo)
    assert entry({"01.png": photo}, photo) == []
    write_submission("w.zip", {"01": Path("result.png")}, "in", DEHAZE, Facts(1, True, False, "d"))


@pytest.mark.parametrize("name", ["\udcff.png", "a:b.png", "a\\b.png"])
@pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")
def test_names_that_an_archive_cannot_have(entry, name):
    Path("in", name).write_bytes(png())
    with pytest.raises(ConfigError, match="an archive cannot have an output of this name"):
        entry({"01.png": png()})


def test_a_description_that_is_no_text():
    text = readme(DEHAZE, Facts(1, True, False, " a\udcff\x1b\n b"))
    assert text.encode().endswith(b": a\\udcff\\x1b b")
