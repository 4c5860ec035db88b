"""`tiled_infer.py` with models for bokeh, stereo pairs, noise and super-resolution."""

from pathlib import Path

import pytest
from cli_cases import make

from refusion import cli
from refusion.data.image_io import read_image

LENSES = ["--from", "Sony50mmf1.8BS", "--to", "Canon50mmf1.4BS", "--disparity", "35"]


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command with the model of a kind, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(kind, *argv):
        own = ["--weights", tiny_checkpoint(kind), "--precision", "fp32"]
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


def change(name, result):
    return float((read_image(result).image - read_image(name).image).abs().mean())


def test_noise_level_says_how_much_is_taken_away(restore):
    make("a.png")
    for level in ("0", "12.5", "50"):
        argv = ["--input", "a.png", "--output", f"{level}.png", "--noise-level", level]
        assert restore("denoise", *argv) == 0
    assert change("a.png", "0.png") < change("a.png", "12.5.png") < change("a.png", "50.png")


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
        ("denoise", [], "--noise-level: missing; the 'denoise' model must be told"),
        ("lens", LENSES[:2], "--to, --disparity: missing; the 'bokeh' model must be told"),
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
    assert line.endswith("a latent U-Net alone, which reconstructs photos as they are")


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
    assert "no partner" in lines[0]
    assert "one size" in lines[1]
    assert lines[2] == "refusion: 3 of 5 photos failed"
    assert sorted(path.name for path in Path("results").iterdir()) == ["a_L.png", "a_R.png"]
    assert read_image("results/a_L.png").image.shape == (3, 40, 28)
    assert restore("stereo_sr", "--input", "in/a_L.png", "in/a_R.png", "--output", "two") == 0
    for name in ("a_L.png", "a_R.png"):
        assert Path("two", name).read_bytes() == Path("results", name).read_bytes()
