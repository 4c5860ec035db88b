"""`refusion-lite`: options, files, errors; and that it runs without PyTorch."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")

from refusion.cli import lite
from refusion.cli import main as refusion

PROGRAM = """
import sys
for name in ("torch", "yaml", "onnx", "kornia", "safetensors", "tqdm"):
    sys.modules[name] = None  # an import of it fails
from refusion.cli.lite import main
sys.exit(main(sys.argv[1:]))
"""


def read(path):
    with Image.open(path) as image:
        return np.asarray(image), image.format, image.info.get("dpi")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[:60, :80]
    levels = np.stack([rows * 2 + 100, columns + 120, rows + columns], -1).clip(0, 255)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(levels.astype(np.uint8)).save(tmp_path / name, dpi=(72, 72))
    return tmp_path


def test_photo_becomes_a_file_in_results(capsys):
    assert lite.main(["dehaze", "a.png"]) == 0
    assert "1 photo restored in" in capsys.readouterr().out
    result, before = read("results/a.png"), read("a.png")
    assert result[0].shape == (60, 80, 3) and result[1:] == before[1:] != (None, None)
    assert not np.array_equal(result[0], before[0])


def test_photos_without_anything_to_restore_are_counted(folder, capsys):
    Image.new("RGB", (40, 30), (120, 130, 140)).save(folder / "flat.png")
    argv = ["denoise", "flat.png", "a.png", "--noise-level", "25", "--output", "out"]
    assert lite.main(argv) == 0
    told = capsys.readouterr().out
    assert "1 photo unchanged, because nothing to restore was found\n" in told
    assert lite.main([*argv, "--strength", "0%"]) == 0  # nothing was looked for
    assert "unchanged" not in capsys.readouterr().out
    assert lite.main(["dehaze", "flat.png", "--output", "out"]) == 0
    advice = "nothing to restore was found; for light haze in the distance there is the task dehaze"
    assert advice in capsys.readouterr().out


def test_names_formats_and_strength():
    argv = ["dehaze", "a.png", "b.jpg", "--output", "out", "--suffix=-new", "--format", "tiff"]
    assert lite.main([*argv, "--strength", "0%", "--threads", "1", "--quiet"]) == 0
    assert np.array_equal(read("out/a-new.tif")[0], read("a.png")[0])
    assert read("out/b-new.tif")[1] == "TIFF"


def test_existing_results_are_kept(folder, capsys):
    (folder / "results").mkdir()
    (folder / "results" / "a.png").write_bytes(b"old")
    assert lite.main(["dehaze", "a.png", "b.jpg", "--overwrite", "never"]) == 0
    assert (folder / "results" / "a.png").read_bytes() == b"old"
    assert "1 photo skipped" in capsys.readouterr().out


def test_one_bad_photo_does_not_stop_the_others(folder, capsys):
    (folder / "bad.png").write_bytes(b"no photo")
    assert lite.main(["dehaze", "bad.png", "a.png", "--output", "out"]) == 1
    assert "failed: bad.png: not an image" in capsys.readouterr().err
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dehase", "a.png"], "did you mean"),
        (["dehaze", "missing.png"], "missing.png: no such file"),
        (["blind", "a.png", "--distance", "0.5"], "--distance: the 'blind' model does not use it"),
        (["blind", "a.png", "--haze-map", "m.png"], "--haze-map: the 'blind' model does not"),
        (["blind", "a.png", "--noise-level", "5"], "--noise-level: the 'blind' model does not use"),
        (["denoise", "a.png", "--noise-level", "300"], "noise level: expected 0..80 8-bit levels"),
        (["dehaze", "a.png", "--max-memory", "much"], "--max-memory: expected a size such as"),
        (["denoise", "a.png", "--strength", "-1"], "--strength: expected 0..1 for 'denoise'"),
        ([".", "a.png"], ".: is a folder, expected an .onnx file; make one from a folder"),
        (["a.png", "b.jpg"], "a.png: cannot be loaded as an ONNX file"),
    ],
)
def test_errors_are_one_line(argv, message, capsys, folder):
    assert lite.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("-i", "; write it without an option, as PHOTO"),
        ("--model", "; write it without an option, as TASK|FILE.onnx"),
        ("-o", "; did you mean '--output'?"),
    ],
)
def test_names_of_other_programs_are_explained(option, hint, capsys):
    with pytest.raises(SystemExit):
        lite.main(["dehaze", "a.png", option, "x"])
    assert f"unknown option '{option}'{hint}; see" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["dehaze"],
        [""],
        ["", "a.png"],
        ["dehaze", ""],
        ["dehaze", "a.png", "--threads", "0"],
        ["dehaze", "a.png", "--strength", "nan"],
        ["dehaze", "a.png", "--strength", "2.5"],
        ["dehaze", "a.png", "--airlight", "red"],
        ["dehaze", "a.png", "--max-pixels", "0"],
    ],
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        lite.main(argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("refusion-lite: error: ") and error.count("\n") == 1


def test_photos_above_the_limits_fail(capsys, folder):
    assert lite.main(["dehaze", "a.png", "--max-pixels", "4799"]) == 1
    assert lite.main(["dehaze", "a.png", "--max-memory", "50M"]) == 1
    pixels, memory = capsys.readouterr().err.splitlines()
    assert "(--max-pixels)" in pixels and "a.png: max memory: " in memory
    assert not list((folder / "results").glob("*"))
    assert lite.main(["dehaze", "a.png", "--max-pixels", "4800", "--max-memory", "8G"]) == 0


def test_a_folder_without_photos_names_the_formats(capsys, folder):
    (folder / "empty").mkdir()
    assert lite.main(["dehaze", "empty"]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "HEIC" in warning and "camera raw" in warning and "no images in empty" in error


HAZE = ["--distance", "60%", "--airlight", "190,195,205", "--exposure", "auto"]


def test_options_of_haze_are_those_of_the_large_program(folder):
    own, other = folder / "own", folder / "other"
    how = ["dehaze", "a.png", *HAZE]
    assert lite.main([*how, "--output", "own/a.png", "--haze-map", "own/map.png"]) == 0
    large = ["--output", "other/a.png", "--haze-map", "other/map.png", "--precision", "fp32"]
    assert refusion([*how, *large, "--device", "cpu", "--quiet"]) == 0
    for name in ("a.png", "map.png"):
        found, expected = (read(place / name)[0].astype(int) for place in (own, other))
        assert np.ptp(found) > 20
        assert np.abs(found - expected).max() <= 1
    assert np.abs(read(own / "a.png")[0].astype(int) - read("a.png")[0]).max() > 3


def test_the_noise_level_is_used(folder):
    for level in ("1", "60"):
        argv = ["denoise", "a.png", "--noise-level", level, "--output", f"{level}.png"]
        assert lite.main(argv) == 0
    pictures = [read(name)[0].astype(int) for name in ("a.png", "1.png", "60.png")]
    weak, strong = (np.abs(pictures[0] - other).mean() for other in pictures[1:])
    assert weak < 0.5 * strong


def test_runs_without_torch_and_gives_the_same_file(folder):
    argv = ["dehaze", "b.jpg", *HAZE, "--max-memory", "4G", "--haze-map", "map.png"]
    command = [sys.executable, "-c", PROGRAM, *argv, "--output", "without"]
    subprocess.run(command, check=True, capture_output=True)
    assert lite.main([*argv, "--output", "with"]) == 0
    names = [folder / name / "b.jpg" for name in ("with", "without")]
    assert names[0].read_bytes() == names[1].read_bytes()
