"""`refusion bokeh` renders added blur; the network does the rest, and all that is asked of it."""

import json
from pathlib import Path

import depth_cases as depth
import pytest
import torch
from cli_cases import make

from refusion import cli
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.optics.disparity import defocus_of

SHARPER = ["--from", "Canon50mmf1.4BS", "--to", "Sony50mmf4.0BS"]
WIDER = ["--from", "Sony50mmf4.0BS", "--to", "Canon50mmf1.4BS"]


def write_map(name, disparity):
    image = disparity.expand(3, *disparity.shape)
    write_image(name, image, Photo(image, mode="gray", bit_depth=16))


def near_square(height=60, width=80):
    disparity = torch.full((height, width), 0.2)
    disparity[20:50, 30:60] = 0.9
    return disparity


@pytest.fixture
def bokeh(tmp_path, monkeypatch):
    """Run the command on a photo with a map, in an empty folder; gives the result and its log."""
    monkeypatch.chdir(tmp_path)
    make("a.png", 60, 80)
    write_map("map.png", near_square())

    def run(*argv, photo="a.png", disparity="map.png"):
        files = [photo, "--disparity", disparity, "--output", "out.png", "--overwrite", "always"]
        log = ["--log-file", "log.json", "--quiet"]
        assert cli.main(["bokeh", *files, *log, "--precision", "fp32", *argv]) == 0
        return read_image(Path("out.png")), json.loads(Path("log.json").read_text())

    return run


@pytest.mark.parametrize(
    ("argv", "method"),
    [
        (["--aperture", "1.8"], "render"),
        (WIDER, "render"),
        (["--from", "Sony50mmf4.0BS", "--aperture", "4"], "render"),
        (SHARPER, "refusion"),
        (["--aperture", "1.8", "--steps", "1"], "refusion"),
        (["--aperture", "1.8", "--method", "refusion"], "refusion"),
        (["--aperture", "1.8", "--method", "render"], "render"),
    ],
)
def test_the_default_depends_on_the_lenses(bokeh, argv, method):
    _, log = bokeh(*argv)
    assert log["options"]["method"] == method
    assert log["model"]["task"] == "bokeh"
    assert log["model"]["weights"] == {"render": None, "refusion": "bokeh.safetensors"}[method]


def test_the_subject_keeps_its_pixels_and_the_background_is_blurred(bokeh):
    result, _ = bokeh("--aperture", "1.4", "--blur", "5")
    before, subject = read_image(Path("a.png")).samples, defocus_of(near_square()) == 0
    assert torch.equal(result.samples[:, subject], before[:, subject])
    behind = (result.samples.int() - before.int()).abs()[:, ~subject]
    assert float((behind > 0).float().mean()) > 0.9
    network, _ = bokeh("--aperture", "1.4", "--blur", "5", "--method", "refusion")
    assert not torch.equal(network.samples[:, subject], before[:, subject])


def test_16_bits_stay_16_bits(bokeh):
    image = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1))
    write_image(Path("deep.png"), image, Photo(image, bit_depth=16))
    result, _ = bokeh("--aperture", "2", photo="deep.png")
    before, subject = read_image(Path("deep.png")).samples, defocus_of(near_square()) == 0
    assert result.bit_depth == 16
    assert torch.equal(result.samples[:, subject], before[:, subject])


def test_the_map_inside_a_portrait_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(depth.gdepth())
    assert cli.main(["bokeh", "a.jpg", "--aperture", "1.8", "--output", "b.png", "--quiet"]) == 0
    assert read_image(Path("b.png")).samples.shape == read_image(Path("a.jpg")).samples.shape


def test_strength_0_is_the_photo_and_a_half_is_a_lens_between(bokeh):
    argv = ["--aperture", "1.4", "--blur", "5"]
    before = read_image(Path("a.png")).samples
    none, half, full = (bokeh(*argv, "--strength", part)[0].samples for part in ("0", "0.5", "1"))
    assert torch.equal(none, before)
    changes = [float((image.float() - before.float()).abs().mean()) for image in (half, full)]
    assert 0 < changes[0] < changes[1]


def test_discs_beyond_the_renderer_are_worked_out_on_a_smaller_copy(bokeh, capsys):
    result, _ = bokeh("--aperture", "1.8", "--blur", "400")
    (line,) = capsys.readouterr().err.splitlines()
    words = "the blur discs have radii up to 400 pixels, and the renderer takes up to 256: "
    assert f"a.png: {words}it works on a copy of 51 pixels" in line
    assert result.samples.shape == (3, 60, 80)
    bokeh("--aperture", "1.8", "--blur", "60")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bokeh", *SHARPER, "--method", "render"], "f/4, blurs less than the source lens, f/1.4"),
        (["bokeh", "--aperture", "2", "--method", "render", "--steps", "2"], "--steps: --method"),
        (["bokeh", "--method", "render"], "--aperture: missing"),
        (["bokeh", "--aperture", "2", "--noise-level", "5"], "--noise-level: the 'bokeh' model"),
        (["bokeh", "--from", "Nikon", "--aperture", "2"], "lens 'Nikon': expected Sony or Canon"),
        (["bokeh", "--to", "Nikon"], "lens 'Nikon': expected Sony or Canon"),
        (
            ["restore", "--aperture", "2", "--method", "render", "--weights", "x.safetensors"],
            "--weights: --method render has no network",
        ),
        (
            ["restore", "--task", "dehaze", "--method", "render", "--aperture", "2"],
            "--task: --method render restores 'bokeh', got 'dehaze'",
        ),
    ],
)
def test_wrong_options_are_one_line(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    make("a.png", 60, 80)
    write_map("map.png", near_square())
    assert cli.main([argv[0], "a.png", "--disparity", "map.png", *argv[1:], "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: error: ") and message in line
    assert not Path("results").exists() or not list(Path("results").iterdir())


def test_it_needs_a_map(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make("a.png", 60, 80)
    assert cli.main(["bokeh", "a.png", "--aperture", "2", "--quiet"]) == 2
    assert "--disparity: missing; " in capsys.readouterr().err
