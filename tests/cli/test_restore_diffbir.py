"""`--method diffbir` on a tiny Stable Diffusion: files in, files out, mistakes in one line."""

import shutil
import sys

import diffbir_cases
import numpy as np
import pytest
import tifffile
import torch
from cli_cases import make, pixels, psnr
from tiny_stable_diffusion import rewrite

from refusion.cli import restore_main
from refusion.errors import CheckpointError


@pytest.fixture(scope="module")
def control(tiny_sd, tmp_path_factory):
    return diffbir_cases.write_control(
        tiny_sd, tmp_path_factory.mktemp("control") / "c.safetensors"
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("photo.png", 22, 26)
    return tmp_path


@pytest.fixture
def diffbir(folder, tiny_sd, control):
    def run(*options, stage1="none", output="out.png", photo="photo.png"):
        command = ["--task", "blind", "--method", "diffbir", "--input", photo, "--output", output]
        command += ["--sd", str(tiny_sd), "--control", str(control), "--quiet"]
        command += [] if stage1 is None else ["--stage1", stage1]
        return restore_main([*command, "--steps", "2", "--precision", "fp32", *options])

    return run


def test_a_photo(folder, diffbir):
    assert diffbir() == 0
    first = pixels("out.png")
    assert first.shape == (22, 26, 3) and first.std() > 1
    assert diffbir(output="again.png") == 0
    assert np.array_equal(pixels("again.png"), first)
    assert diffbir("--seed", "1", "--sampler", "dpm++", output="other.png") == 0
    assert not np.array_equal(pixels("other.png"), first)


def test_fidelity_comes_nearer(folder, diffbir):
    for fidelity in ("0", "1"):
        assert diffbir("--fidelity", fidelity, output=f"{fidelity}.png") == 0
    assert psnr("1.png", "photo.png") > psnr("0.png", "photo.png")


def test_16_bits_upscale_and_a_folder(folder, diffbir):
    levels = np.random.default_rng(0).integers(0, 65536, (18, 20, 3), dtype=np.uint16)
    tifffile.imwrite("deep.tif", levels, photometric="rgb")
    log = ["--log-file", "log.json"]
    assert diffbir("--upscale", "2", *log, photo="deep.tif", output="deep_out.tif") == 0
    result = tifffile.imread("deep_out.tif")
    assert result.dtype == np.uint16 and result.shape == (36, 40, 3)
    assert len(np.unique(result % 256)) > 100  # finer than 8 bits
    assert '"sampler": "ddpm"' in (folder / "log.json").read_text()
    (folder / "many").mkdir()
    for name in ("a", "b"):
        make(f"many/{name}.png", 17, 16, seed=ord(name))
    assert diffbir("--tile", "16", photo="many", output="results") == 0
    assert pixels("results/b.png").shape == (17, 16, 3)


def test_stage1_is_any_restorer_of_the_task(folder, diffbir, tiny_checkpoint):
    assert diffbir() == 0
    plain = pixels("out.png")
    assert diffbir(stage1=str(tiny_checkpoint("pixel"))) == 0
    assert not np.array_equal(pixels("out.png"), plain)


WRONG = [
    (("--fidelity", "2"), "expected a number from 0 to 1"),
    (("--sampler", "posterior"), "unknown sampler 'posterior'"),
    (("--steps", "2000"), "steps: expected 1 to 1000"),
    (("--task", "dehaze"), "--method diffbir restores 'blind', got 'dehaze'"),
    (("--weights", "x.safetensors"), "--weights: --method diffbir does not use it; see --stage1"),
    (("--noise-level", "3"), "--noise-level: --method diffbir does not use it"),
    (("--kernel", "gauss:1"), "--kernel: only --method ddrm uses it"),
    (("--stage1", "nothing.safetensors"), "--stage1: nothing.safetensors: no such weights file"),
    (("--sd", "nowhere"), "nowhere: without unet/config.json"),
    (("--control", "nothing.pth"), "nothing.pth: no such weights file; expected the IRControlNet"),
    (("--upscale", "2000"), "upscale: expected 1 to 16"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_mistakes_are_one_line(folder, diffbir, capsys, options, message):
    try:
        assert diffbir(*options) == 2
    except SystemExit as stop:  # argparse's own
        assert stop.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "refusion: error: " not in error or error.count("\n") == 1
    assert not (folder / "out.png").exists()


def test_without_files_one_line_says_which(folder, capsys, tiny_sd):
    command = ["--input", "photo.png", "--task", "blind", "--method", "diffbir"]
    assert restore_main(command) == 2
    error = capsys.readouterr().err
    for part in ("--sd DIR", "stable-diffusion-2-1-base", "--control FILE", "v2.pth", "models/"):
        assert part in error
    assert error.count("\n") == 1
    assert restore_main([*command, "--sd", str(tiny_sd)]) == 2
    assert "--sd DIR" not in (error := capsys.readouterr().err) and "--control FILE" in error
    assert restore_main(["--input", "photo.png", "--fidelity", "0.5"]) == 2
    assert "--fidelity: only --method diffbir uses it" in capsys.readouterr().err


def test_stage1_ships_or_must_be_named(folder, diffbir, capsys, monkeypatch, tiny_checkpoint):
    monkeypatch.setattr("refusion.weights.find_weights", lambda word: tiny_checkpoint("pixel"))
    assert diffbir(stage1=None) == 0

    def missing(word):
        raise CheckpointError(f"no default weights for task '{word}'")

    monkeypatch.setattr("refusion.weights.find_weights", missing)
    assert diffbir(stage1=None) == 2
    error = capsys.readouterr().err
    assert "--stage1: no default weights for task 'blind'; give" in error and "none" in error


def test_without_the_libraries(folder, diffbir, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert diffbir() == 2
    error = capsys.readouterr().err
    assert "needs diffusers" in error and "pip install 'diffusers>=0.40" in error
    assert error.count("\n") == 1


def test_damaged_weights_end_in_one_line(folder, diffbir, capsys, tiny_sd):
    bad = shutil.copytree(tiny_sd, folder / "bad")
    rewrite(bad, "unet", lambda tensors: tensors["conv_in.bias"].fill_(float("nan")))
    assert diffbir("--sd", str(bad)) == 1
    assert "values that are not finite" in capsys.readouterr().err
    assert torch.is_grad_enabled()


def test_the_memory_limit_holds_for_reading(folder, diffbir, capsys):
    assert diffbir("--max-memory", "1M") == 1
    assert "photo.png: max memory: decoding 26x22 pixels needs" in capsys.readouterr().err
    assert not (folder / "out.png").exists()
