"""`refusion bokeh` with photos that bring their own depth map."""

import subprocess
import sys
from pathlib import Path

import depth_cases as depth
import pytest
import torch
from cli_cases import make

from refusion import cli
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command with a bokeh model, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        own = ["--weights", tiny_checkpoint("guided"), "--precision", "fp32"]
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


def write_map(name, values):
    Path(name).parent.mkdir(exist_ok=True)
    image = torch.from_numpy(values).expand(3, *values.shape)
    write_image(name, image, Photo(image, mode="gray", bit_depth=16))


def test_the_map_inside_a_portrait_is_used(restore, capsys):
    portraits = {"a.jpg": depth.gdepth(), "b.jpg": depth.container(6), "c.jpg": depth.apple()}
    Path("in").mkdir()
    for name, data in portraits.items():
        Path("in", name).write_bytes(data)
    assert restore("--input", "in", "--aperture", "1.8", "--output", "own") == 0
    write_map("map.png", depth.disparity())
    argv = ["--aperture", "1.8", "--disparity"]
    assert restore("--input", "in/a.jpg", *argv, "map.png", "--output", "a.jpg") == 0
    own, given = (read_image(name).image for name in ("own/a.jpg", "a.jpg"))
    assert float((own - given).abs().mean()) < 0.01
    write_map("map.png", 1 - depth.disparity())
    assert restore("--input", "in/a.jpg", *argv, "map.png", "--output", "a.jpg") == 0
    other = read_image("a.jpg").image
    assert float((other - given).abs().mean()) > 2 * float((own - given).abs().mean())
    assert read_image("own/b.jpg").image.shape == (3, 96, 64)


def test_a_photo_without_a_map_among_portraits_fails_alone(restore, capsys):
    Path("a.jpg").write_bytes(depth.apple())
    Path("b.jpg").write_bytes(depth.photo())
    Path("c.jpg").write_bytes(depth.gdepth(text="@"))
    argv = ["--input", "a.jpg", "b.jpg", "c.jpg", "--aperture", "2", "--output", "out"]
    assert restore(*argv) == 1
    assert [path.name for path in Path("out").iterdir()] == ["a.jpg"]
    failed = [line for line in capsys.readouterr().err.splitlines() if "failed: " in line]
    assert len(failed) == 2
    assert (
        "failed: b.jpg: has no depth map of its own; give a map of it by --disparity" in failed[0]
    )
    assert "failed: c.jpg: its depth map cannot be read (its base64 text is damaged" in failed[1]


def test_a_heic_portrait(restore):
    pytest.importorskip("pillow_heif")
    Path("a.heic").write_bytes(depth.heic(angle=1, map_angle=1))
    assert restore("--input", "a.heic", "--aperture", "2", "--output", "a.png") == 0
    assert read_image("a.png").image.shape == (3, 96, 64)


def test_a_given_map_wins(restore):
    Path("a.jpg").write_bytes(depth.gdepth())
    write_map("maps/a.png", 1 - depth.disparity())
    for name, argv in {"own": [], "given": ["--disparity", "maps"]}.items():
        assert restore("--input", "a.jpg", "--aperture", "2", *argv, "--output", f"{name}.png") == 0
    assert Path("own.png").read_bytes() != Path("given.png").read_bytes()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--aperture", "2"], "--disparity: missing; the model blurs the background"),
        (
            ["--aperture", "2"],
            "a.png has no depth map of its own: take a portrait photo of a phone",
        ),
        ([], "--aperture, --disparity: missing; the model blurs the background"),
    ],
)
def test_what_is_missing_is_named_before_pytorch_is_loaded(tmp_path, argv, message):
    make(tmp_path / "a.png")
    code = (
        "import sys; from refusion import cli\n"
        "try: code = cli.main(sys.argv[1:])\n"
        "finally: assert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "bokeh", "a.png", *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("refusion: error: ") and message in line


def test_apertures_as_photographers_write_them(restore):
    Path("a.jpg").write_bytes(depth.gdepth())
    for name, text in (("1", "2.8"), ("2", "f/2.8"), ("3", "F2.8")):
        assert restore("--input", "a.jpg", "--aperture", text, "--output", f"{name}.png") == 0
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes() == Path("3.png").read_bytes()


def test_only_the_aperture_is_missing(restore, capsys):
    Path("a.jpg").write_bytes(depth.apple())
    assert restore("--input", "a.jpg") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: error: --aperture: missing; the model blurs")
    assert restore("--input", "a.jpg", "--aperture", "2", "--zero-unknown") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--zero-unknown: is for a map that is given by --disparity" in line
