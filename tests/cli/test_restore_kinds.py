"""`tiled_infer.py` with models for bokeh, stereo pairs, noise and super-resolution."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from cli_cases import make

from refusion import cli
from refusion.cli.options.bokeh import add_bokeh_options
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo

LENSES = ["--from", "Sony50mmf1.8BS", "--to", "Canon50mmf1.4BS", "--disparity", "35"]
NAMED = LENSES[:4]


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command with the model of a kind, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(kind, *argv):
        own = ["--weights", tiny_checkpoint(kind), "--precision", "fp32"]
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


def write_map(name, values):
    """Write values (H, W) in [0, 1] as a gray file."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image = values.expand(3, *values.shape)
    write_image(name, image, Photo(image, mode="gray", bit_depth=16))


def change(name, result):
    return float((read_image(result).image - read_image(name).image).abs().mean())


def test_noise_level_says_how_much_is_taken_away(restore):
    make("a.png")
    for level in ("0", "12.5", "50"):
        argv = ["--input", "a.png", "--output", f"{level}.png", "--noise-level", level]
        assert restore("denoise", *argv) == 0
    assert change("a.png", "0.png") < change("a.png", "12.5.png") < change("a.png", "50.png")


@pytest.mark.parametrize("samples", [[], ["--samples", "3"]])
def test_the_noise_level_of_a_photo_is_estimated_once(restore, monkeypatch, capsys, samples):
    make("a.png")
    estimated = []

    def counted(image):
        estimated.append(image.shape)
        return torch.tensor([0.1])

    for module in ("batch.jobs", "restorers.refusion.noise_level"):
        monkeypatch.setattr(f"refusion.{module}.estimate_noise_std", counted)
    assert restore("denoise", "--input", "a.png", *samples) == 0
    assert len(estimated) == 1
    assert "estimated noise level: 25.5 of 255" in capsys.readouterr().out


def test_the_noise_level_is_estimated_shown_and_logged(restore, capsys):
    flat = torch.full((3, 48, 64), 0.5)
    flat[..., :20] = 0.7
    generator = torch.Generator().manual_seed(0)
    for name, level in (("a.png", 20), ("b.png", 0), ("c.png", 8)):
        write_image(name, flat + level / 255 * torch.randn(flat.shape, generator=generator))
    inputs = ["--input", "a.png", "b.png", "c.png", "--log-file", "log.json"]
    for argv in ([], ["--noise-level", "auto"]):
        assert restore("denoise", *inputs, *argv) == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = [line for line in lines if line.startswith("estimated noise level: 0.0 to ")]
        assert float(line.split()[-3]) == pytest.approx(20, rel=0.1)
        assert "1 photo unchanged, because nothing to restore was found" in lines
        photos = json.loads(Path("log.json").read_text())["photos"]
        levels = [photo["noise_level"] for photo in photos]
        assert levels == pytest.approx([20, 0, 8], rel=0.1)
        assert [photo["unchanged"] for photo in photos] == [False, True, False]
    given = ["--noise-level", str(levels[0]), "--output", "given"]
    assert restore("denoise", "--input", "a.png", "--log-file", "log.json", *given) == 0
    assert "estimated" not in capsys.readouterr().out
    assert "noise_level" not in json.loads(Path("log.json").read_text())["photos"][0]
    both = (read_image(f"{folder}/a.png").image for folder in ("results", "given"))
    torch.testing.assert_close(*both, atol=2 / 255, rtol=0)


def test_lenses_and_disparity_reach_the_model(restore):
    make("a.png")
    others = [[], ["--to", "Sony50mmf16.0BS"], ["--from", "Sony50mmf16.0BS"], ["--disparity", "70"]]
    results = set()
    for number, other in enumerate(others):
        argv = ["--input", "a.png", "--output", f"{number}.png", *LENSES, *other]
        assert restore("lens", *argv) == 0
        results.add(Path(f"{number}.png").read_bytes())
    assert len(results) == len(others)


@pytest.mark.parametrize(
    ("kind", "argv", "message"),
    [
        ("latent", ["--noise-level", "25"], "--noise-level: the 'dehaze' model does not use it"),
        ("denoise", [*LENSES, "--noise-level", "1"], "--from: the 'denoise' model does not use it"),
        ("lens", [*LENSES, "--noise-level", "1"], "--noise-level: the 'bokeh' model does not"),
        ("latent", ["--noise-level", "auto"], "--noise-level: the 'dehaze' model does not use it"),
        ("lens", LENSES[:2], "--to, --disparity: missing; the 'bokeh' model needs the value"),
        ("lens", ["--from", "Nikon", *LENSES[2:]], "lens 'Nikon': expected"),
        ("latent", ["--disparity", "0"], "--disparity: the 'dehaze' model does not use it"),
    ],
)
def test_what_the_model_is_told_is_checked_before_any_photo(restore, capsys, kind, argv, message):
    Path("broken.png").write_bytes(b"no image")
    assert restore(kind, "--input", "broken.png", "gone.png", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: error: ")
    assert message in line


def test_a_disparity_map_says_where_the_bokeh_is(restore, capsys):
    make("photos/a.png", 40, 60)
    make("photos/b.png", 40, 60, seed=1)
    write_map("maps/a.png", torch.linspace(0, 1, 60).expand(40, 60))
    write_map("maps/b.tif", torch.linspace(1, 0, 30).expand(20, 30))
    argv = ["--input", "photos", *NAMED, "--disparity", "maps"]
    assert restore("guided", *argv, "--output", "far") == 0
    assert sorted(path.name for path in Path("far").iterdir()) == ["a.png", "b.png"]
    assert capsys.readouterr().err == ""
    others = [["--focus", "0.1,0.5"], ["--blur", "9"], ["--zero-unknown"], []]
    results = {Path("far/a.png").read_bytes()}
    for number, other in enumerate(others):
        one = ["--input", "photos/a.png", *NAMED, "--disparity", "maps/a.png", *other]
        assert restore("guided", *one, "--output", f"{number}.png") == 0
        results.add(Path(f"{number}.png").read_bytes())
    assert len(results) == 4  # the last is the first again


def test_an_aperture_is_short_for_two_lenses(restore):
    photo = make("a.png", 40, 60)
    write_map("map.png", torch.linspace(0, 1, 60).expand(40, 60))
    both = ["--from", "Sony50mmf16.0BS", "--to", "Canon50mmf1.8BS"]
    for name, lens in {"a": both, "b": ["--aperture", "1.8"], "c": ["--aperture", "4"]}.items():
        argv = ["--input", photo, "--disparity", "map.png", *lens, "--output", f"{name}_.png"]
        assert restore("guided", *argv) == 0
    first, short, other = (Path(f"{name}_.png").read_bytes() for name in "abc")
    assert first == short != other


def test_large_discs_are_worked_out_on_a_smaller_copy(restore, capsys):
    photo = make("a.png", 60, 90)
    write_map("map.png", torch.linspace(0, 1, 90).expand(60, 90))
    argv = ["--input", photo, *NAMED, "--disparity", "map.png", "--blur", "60"]
    assert restore("guided", *argv, "--output", "b.png") == 0
    (line,) = capsys.readouterr().err.splitlines()
    words = "the blur discs have radii up to 77 pixels, and the model was trained up to 40: "
    assert line.startswith(f"refusion: warning: a.png: {words}it works on a copy of 46 pixels")
    assert read_image("b.png").image.shape == (3, 60, 90)
    assert restore("guided", *argv, "--output", "c.png", "--strength", "0") == 0
    assert torch.equal(read_image("c.png").samples, read_image(photo).samples)


@pytest.mark.parametrize(
    ("kind", "argv", "message"),
    [
        ("guided", [*NAMED, "--zero-unknown"], "error: --disparity: missing"),
        ("guided", NAMED, "and none of the photos has a depth map of its own: take a portrait"),
        ("guided", NAMED, "error: --disparity: missing; the model blurs the background"),
        ("guided", [], "error: --aperture, --disparity: missing; the model blurs"),
        ("guided", [*NAMED, "--aperture", "2"], "--aperture: --to names the lens, too"),
        ("guided", LENSES, "takes a map FILE, brighter is nearer, not the number 35"),
        ("guided", ["--disparity", "."], "error: --aperture: missing; the model blurs"),
        ("guided", [*NAMED, "--disparity", "gone.png"], "no such file or folder: gone.png"),
        ("guided", [*NAMED, "--disparity", "map.png"], "--disparity: one map for 2 photos"),
        ("lens", [*NAMED, "--disparity", "map.png"], "takes a number, as in meta.txt"),
        ("lens", [*LENSES, "--blur", "3"], "--blur: the 'bokeh' model does not use it"),
        ("latent", ["--focus", "0,1"], "--focus: the 'dehaze' model does not use it"),
        ("latent", ["--disparity", "map.png"], "--disparity: the 'dehaze' model does not use it"),
    ],
)
def test_what_a_map_needs_is_checked_before_any_photo(restore, capsys, kind, argv, message):
    Path("broken.png").write_bytes(b"no image")
    make("map.png")
    assert restore(kind, "--input", "broken.png", "gone.png", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: error: ")
    assert message in line


def test_the_point_in_focus_takes_percent():
    parser = argparse.ArgumentParser()
    add_bokeh_options(parser.add_argument)
    given = [
        parser.parse_args(["--focus", text]).focus for text in ("0.5,0.25", "50%,25%", "50%, 0.25")
    ]
    assert given == [(0.5, 0.25)] * 3


@pytest.mark.parametrize("argv", [["--focus", "0.5"], ["--focus", "0.5,1.5"], ["--blur", "0"]])
def test_values_of_map_options_are_checked(restore, argv, capsys):
    with pytest.raises(SystemExit):
        restore("guided", "--input", "a.png", *argv)
    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize("level", ["71", "-1"])
def test_a_noise_level_out_of_range_ends_the_run(restore, capsys, level):
    photos = [make("a.png"), make("b.png")]
    assert restore("denoise", "--input", *photos, "--noise-level", level) == 2
    (line,) = capsys.readouterr().err.splitlines()
    words = "refusion: error: noise level: expected 0..70 8-bit levels, the range of the model, got"
    assert line == f"{words} {level}"
    assert not list(Path("results").glob("*.png"))


def test_a_latent_unet_alone_is_warned_of_once(restore, capsys):
    assert restore("unet", "--input", make("a.png"), "--output", "b.png") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("refusion: warning: ")
    assert line.endswith(
        "a latent U-Net alone, which encodes and decodes photos without restoring them"
    )


def test_super_resolution_enlarges(restore):
    make("in/a.jpg")
    assert restore("sr", "--input", "in", "--compare") == 0
    assert read_image("results/a.jpg").image.shape == (3, 40, 28)
    assert read_image("results/a_compare.png").image.shape == (3, 40, 56)


def test_stereo_pairs_are_restored_together(restore, capsys):
    for seed, name in enumerate(("a_L", "a_R", "b_L", "c_L", "c_R")):
        make(f"in/{name}.png", seed=seed)
    make("in/c_R.png", width=15)
    assert restore("stereo_sr", "--input", "in") == 1
    out, err = capsys.readouterr()
    assert out.startswith("2 photos restored")
    lines = err.splitlines()
    assert [line.split(": ")[2] for line in lines[:2]] == ["in/b_L.png", "in/c_L.png"]
    assert "the other view is missing" in lines[0]
    assert "one size" in lines[1]
    assert lines[2] == "refusion: 3 of 5 photos failed"
    assert sorted(path.name for path in Path("results").iterdir()) == ["a_L.png", "a_R.png"]
    assert read_image("results/a_L.png").image.shape == (3, 40, 28)
    assert restore("stereo_sr", "--input", "in/a_L.png", "in/a_R.png", "--output", "two") == 0
    for name in ("a_L.png", "a_R.png"):
        assert Path("two", name).read_bytes() == Path("results", name).read_bytes()
