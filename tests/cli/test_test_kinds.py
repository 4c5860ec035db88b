"""`refusion test` with models for bokeh, stereo pairs, noise and super-resolution."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from cli_cases import make, pixels, psnr

from refusion import cli

LENSES = ["--from", "Sony50mmf1.8BS", "--to", "Canon50mmf1.4BS", "--disparity", "35"]


@pytest.fixture
def call(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    """Run the command with the model of a kind; exit code, numbers by photo, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(kind, *argv):
        own = ["--weights", tiny_checkpoint(kind), "--device", "cpu", "--precision", "fp32"]
        code = cli.test_main([str(word) for word in (*argv, *own, "--json", "r.json")])
        images = json.loads(Path("r.json").read_text())["sets"]["lq"]["images"] if not code else []
        return code, {row["name"]: row.get("result", {}) for row in images}, capsys.readouterr().err

    return run


def test_noise_level_and_lenses_are_conditions(call):
    make("lq/a.png")
    make("gt/a.png", seed=1)
    folders = ["--lq", "lq", "--gt", "gt"]
    codes, first, _ = call("denoise", *folders, "--noise-level", 50)
    assert codes == 0
    assert call("denoise", *folders, "--noise-level", 10)[1] != first
    estimated = call("denoise", *folders)[1]
    assert estimated == call("denoise", *folders, "--noise-level", "auto")[1] != first
    first = call("lens", *folders, *LENSES)[1]
    model = json.loads(Path("r.json").read_text(encoding="utf-8"))["model"]
    assert (model["from"], model["to"], model["disparity"]) == (LENSES[1], LENSES[3], 35)
    assert "noise_level" not in model
    assert call("lens", *folders, *LENSES, "--disparity", 70)[1] != first


@pytest.mark.parametrize(
    ("kind", "argv", "message"),
    [
        ("lens", LENSES[:4], "--disparity: missing"),
        ("guided", LENSES, "needs the defocus of every pixel as a condition"),
        ("pixel", LENSES, "--from: the 'dehaze' model does not use it"),
        (
            "sr",
            ["--gt", "lq", "--max-side", "9"],
            "--max-side: the 'sr' model needs pairs of sizes 1:2",
        ),
        ("stereo", ["--max-side", "9"], "--max-side: not for the 'stereo' model"),
        ("stereo", ["--lq-suffix", "_x"], "--lq-suffix: not for the 'stereo' model"),
        ("stereo", [], "does not end in left_suffix"),
    ],
)
def test_an_option_that_the_model_cannot_use_is_one_line(call, kind, argv, message):
    make("lq/a.png")
    code, _, err = call(kind, "--lq", "lq", *argv)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err


def test_super_resolution_is_measured_at_full_size(call):
    make("lq/a.png")
    make("gt/a.png", 40, 28, seed=1)
    code, rows, _ = call("sr", "--lq", "lq", "--gt", "gt", "--output", "out")
    assert code == 0
    expected = psnr("out/a.png", "gt/a.png")
    assert rows["a"]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert call("sr", "--lq", "lq", "--output", "alone")[0] == 0
    assert np.array_equal(pixels("alone/a.png"), pixels("out/a.png"))


@pytest.mark.parametrize("kind", ["stereo", "stereo_sr"])
def test_stereo_pairs_are_measured_and_written_as_two_files(call, kind):
    scale = tiny_models.CONFIGS[kind].get("upscale", {"factor": 1})["factor"]
    for seed, view in enumerate("LR"):
        make(f"lq/sub/a_{view}.png", seed=seed)
        make(f"gt/sub/a_{view}.png", 20 * scale, 14 * scale, seed=seed + 2)
    code, rows, _ = call(kind, "--lq", "lq", "--gt", "gt", "--output", "out")
    assert code == 0
    assert list(rows) == ["sub/a"]
    written = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.png"))
    assert written == ["sub/a_L.png", "sub/a_R.png"]
    views = [psnr(f"out/{name}", f"gt/{name}") for name in written]
    assert min(views) <= rows["sub/a"]["psnr"] <= max(views)
    assert call(kind, "--lq", "lq", "--output", "alone")[0] == 0
    for name in written:
        assert np.array_equal(pixels(f"alone/{name}"), pixels(f"out/{name}"))
