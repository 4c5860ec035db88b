"""Challenge entries: written entries pass the checks, and each fault of a zip is reported."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refusion import cli
from refusion.errors import ConfigError
from refusion.submission.check import check_submission
from refusion.submission.pack import Facts, readme, write_submission
from refusion.submission.tracks import README, TRACKS

FACTS = Facts(1.5, True, False, "Refusion")
DEHAZE, STEREO = TRACKS["dehaze"], TRACKS["stereo_sr"]


def photo(path, size=(9, 7), mode="RGB"):
    """Write a photo of noise."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(size[0])
    levels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    if mode == "RGBA":
        image.putalpha(255)
    image.save(path)
    return Path(path)


def png(size=(9, 7), mode="RGB", **options):
    data = io.BytesIO()
    Image.new(mode, size).save(data, options.pop("format", "PNG"), **options)
    return data.getvalue()


def png_16_bit(size=(9, 7), channels=3):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", *size, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    line = b"\0" + b"\xff" * (2 * channels * size[0])
    pixels = zlib.compress(line * size[1])
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Two inputs, the second with alpha, and their results."""
    monkeypatch.chdir(tmp_path)
    photo("in/01.png")
    photo("in/02.png", mode="RGBA")
    return {"01": photo("out/01.png"), "02": photo("out/02.png")}


def archive(changes=(), text=None, name="e.zip", track=DEHAZE):
    """A good entry with changes: a name -> bytes, or None to leave it out."""
    content = {"01.png": png(), "02.png": png(), README: readme(track, FACTS).encode()}
    if text is not None:
        content[README] = text.encode()
    content |= dict(changes)
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as file:
        for entry, data in content.items():
            if data is not None:
                file.writestr(entry, data)
    return name


def test_a_good_entry_is_written_and_passes(work):
    write_submission("a.zip", work, "in", DEHAZE, FACTS)
    assert check_submission("a.zip", "in", DEHAZE) == []
    with zipfile.ZipFile("a.zip") as file:
        assert file.namelist() == ["01.png", "02.png", README]
        assert file.read("01.png") == work["01"].read_bytes()
        assert Image.open(io.BytesIO(file.read("02.png"))).mode == "RGBA"
        assert file.read(README).decode().splitlines() == [
            "runtime per image [s] : 1.5",
            "CPU[1] / GPU[0] : 1",
            "Extra Data [1] / No Extra Data [0] : 0",
            "Other description : Refusion",
        ]


def test_same_outputs_same_bytes(work):
    write_submission("a.zip", work, "in", DEHAZE, FACTS)
    for path in work.values():
        os.utime(path, (0, 0))
    write_submission("b.zip", dict(reversed(work.items())), "in", DEHAZE, FACTS)
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()


def test_an_entry_that_breaks_a_rule_is_not_written(work):
    Path("a.zip").write_text("old")
    photo("out/01.png", size=(8, 8))
    with pytest.raises(ConfigError, match=r"01\.png: is 8x8, expected 9x7"):
        write_submission("a.zip", work, "in", DEHAZE, FACTS)
    with pytest.raises(ConfigError, match=r"no result for 02\.png"):
        write_submission("a.zip", {"01": work["01"]}, "in", DEHAZE, FACTS)
    assert Path("a.zip").read_text() == "old"
    assert [path.name for path in Path().glob("*zip*")] == ["a.zip"]


def test_stereo_outputs_are_larger_and_extra_data_is_refused(work):
    for view in "LR":
        photo(f"pairs/1_{view}.png")
    results = {f"1_{view}": photo(f"sr/1_{view}.png", (36, 28)) for view in "LR"}
    write_submission("a.zip", results, "pairs", STEREO, FACTS)
    with pytest.raises(ConfigError, match="the track allows no extra data"):
        write_submission("a.zip", results, "pairs", STEREO, Facts(1, True, True, "x"))


def test_bokeh_outputs_are_jpeg(work):
    photo("bokeh/00000.src.jpg")
    result = {"00000.src": photo("r/00000.src.png")}
    write_submission("a.zip", result, "bokeh", TRACKS["bokeh"], FACTS)
    with zipfile.ZipFile("a.zip") as file:
        data = file.read("00000.src_out.jpg")
    assert Image.open(io.BytesIO(data)).format == "JPEG"


HIDDEN = readme(DEHAZE, FACTS)
FAULTS = [
    ({"01.png": None}, "01.png: missing"),
    ({README: None}, "readme.txt: missing"),
    (
        {"../evil.png": png()},
        "'../evil.png': not allowed: all files must be at the root of the archive",
    ),
    ({"/etc/evil": b"x"}, "'/etc/evil': not allowed"),
    ({r"C:\evil.png": png()}, "not allowed: all files"),
    ({"out/01.png": png()}, "'out/01.png': not allowed"),
    ({"__MACOSX/": b""}, "'__MACOSX/': not allowed"),
    ({".DS_Store": b"x"}, "'.DS_Store': not allowed"),
    ({"03.png": png()}, "'03.png': not allowed: it is not the output of any input"),
    ({"\x1b[31m.png": png()}, r"'\x1b[31m.png': not allowed"),
    ({"01.png": png((8, 7))}, "01.png: is 8x7, expected 9x7"),
    ({"01.png": png(mode="L")}, "01.png: is L, expected RGB"),
    ({"01.png": png(mode="P")}, "01.png: is P, expected RGB"),
    ({"01.png": png(mode="RGBA")}, "01.png: is RGBA, expected RGB"),
    ({"02.png": png(mode="RGBA")}, "02.png: has an alpha channel that is not opaque"),
    ({"01.png": png_16_bit()}, "01.png: has 16 bits per sample, expected 8"),
    ({"02.png": png_16_bit(channels=4)}, "02.png: has 16 bits per sample, expected 8"),
    ({"01.png": png(format="JPEG")}, "01.png: is JPEG, expected PNG"),
    ({"01.png": png()[:50]}, "01.png: cannot be decoded"),
    ({"01.png": b"no image"}, "01.png: cannot be decoded"),
    ({"01.png": b"\0" * (1 << 24)}, "01.png: unpacks to more than 1049080 bytes"),
    ({"01.png": png((30000, 30000), "1")}, "01.png: "),
    ({README: b"\xff\xfe"}, "readme.txt: is not UTF-8"),
    ({README: b"a" * (1 << 20)}, "readme.txt: unpacks to more than 65536 bytes"),
    ({README: b"hello"}, "readme.txt: expected the lines runtime per image [s]"),
    ({README: HIDDEN.replace("1.5", "fast").encode()}, "expected a number, got 'fast'"),
    ({README: HIDDEN.replace("1.5", "nan").encode()}, "expected a number, got 'nan'"),
    ({README: HIDDEN.replace("GPU[0] : 1", "GPU[0] : 2").encode()}, "expected a flag, got '2'"),
    ({README: HIDDEN.replace("Refusion", "").encode()}, "expected a text, got ''"),
]


@pytest.mark.parametrize(("changes", "words"), FAULTS, ids=range(len(FAULTS)))
def test_every_fault_is_named(work, changes, words):
    before = sorted(Path().rglob("*"))
    faults = check_submission(archive(changes), "in", DEHAZE)
    assert [fault for fault in faults if words in fault], faults
    assert all(fault.isprintable() for fault in faults)
    assert len(faults) == 1
    assert sorted(Path().rglob("*")) == sorted([*before, Path("e.zip")])


def test_malicious_files_end_in_a_list(work):
    Path("no.zip").write_bytes(b"nonsense")
    assert "not a readable zip" in check_submission("no.zip", "in", DEHAZE)[0]
    good = Path(archive()).read_bytes()
    for length in range(0, len(good), 37):
        Path("cut.zip").write_bytes(good[:length])
        assert check_submission("cut.zip", "in", DEHAZE)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 6):
            damaged[place] ^= 1 << rng.integers(8)
        Path("bad.zip").write_bytes(damaged)
        check_submission("bad.zip", "in", DEHAZE)
    assert check_submission("absent.zip", "in", DEHAZE) == ["there is no such file"]


def test_links_duplicates_and_too_many_entries(work):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(archive(), "a") as file:
        file.writestr("01.png", png())
    assert check_submission("e.zip", "in", DEHAZE) == ["'01.png': 2 times"]
    entry = zipfile.ZipInfo("01.png")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive({"01.png": None}), "a") as file:
        file.writestr(entry, "/etc/passwd")
    assert check_submission("e.zip", "in", DEHAZE) == ["'01.png': is a link, expected a file"]
    many = {f"{number}.txt": b"" for number in range(1100)}
    (fault,) = check_submission(archive(many), "in", DEHAZE)
    assert "1103 entries, expected 3" in fault


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_limit_are_refused(work, method):
    """Python unpacks these methods without a limit: 4 KB may become gigabytes."""
    with zipfile.ZipFile(archive({"01.png": None}), "a") as file:
        file.writestr("01.png", bytes(1 << 24), compress_type=method)
    (fault,) = check_submission("e.zip", "in", DEHAZE)
    assert fault == f"'01.png': is compressed by method {method}, expected stored or deflated"


def test_command_lists_faults_and_sets_the_exit_code(work, capsys):
    argv = ["check-submission", archive(), "--inputs", "in", "--track", "dehaze"]
    assert cli.main(argv) == 0
    assert "no fault found" in capsys.readouterr().out
    archive({"01.png": None})
    assert cli.main(argv) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "e.zip: 1 fault, track dehaze"
    archive({"01.png": None, "x.txt": b""})
    assert cli.main(argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "01.png: missing",
        "'x.txt': not allowed: it is not the output of any input",
    ]
    assert cli.main([*argv[:2], "--inputs", "absent", "--track", "dehaze"]) == 2


def test_entry_of_a_run(work, capsys, tmp_path, monkeypatch, tiny_checkpoint):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = ["--lq", "in", "--weights", str(tiny_checkpoint()), "--device", "cpu"]
    entry = ["--output", "res", "--submit", "e.zip", "--track", "dehaze", "--description", "d"]
    assert cli.test_main([*argv, *entry]) == 0
    assert check_submission("e.zip", "in", DEHAZE) == []
    with zipfile.ZipFile("e.zip") as file:
        assert "CPU[1] / GPU[0] : 1" in file.read(README).decode()
    capsys.readouterr()
    monkeypatch.delattr(
        "refusion.restorers.Refusion.restore"
    )  # errors come before photos are restored
    for wrong, words in [
        ([*argv, "--submit", "e.zip"], "--submit: needs --output"),
        ([*argv, "--track", "dehaze"], "--track: needs --submit"),
        (
            [*argv, *entry, "--limit", "1"],
            "--limit: not possible with --submit, as an entry holds every photo",
        ),
        (
            [*argv, *entry, "--track", "stereo_sr", "--extra-data"],
            "--extra-data: the track 'stereo_sr' allows no extra data",
        ),
        ([*argv, *entry, "--track", "stereo_sr"], "have 4 times the size of their inputs"),
        (
            [*argv[2:], *entry, "--data", "a=in", "--data", "b=in"],
            "--submit: expected one set of photos, got 2",
        ),
    ]:
        assert cli.test_main(wrong) == 2
        assert words in capsys.readouterr().err
