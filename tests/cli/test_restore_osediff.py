"""`--method osediff` on real files."""

import cli_cases
import numpy as np
import osediff_cases
import pytest
import torch
from PIL import Image

from refusion.cli import restore_main
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory):
    pytest.importorskip("peft")
    weights = osediff_cases.made_weights(tiny_sd)
    return osediff_cases.write_files(tmp_path_factory.mktemp("lora"), weights)[1]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli_cases.make("photos/a.png", 20, 14)
    cli_cases.make("photos/b.png", 9, 31)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a brick wall\n")
    return tmp_path


def osediff(tiny_sd, lora, *options, source="photos"):
    common = ["--task", "blind", "--method", "osediff", "--device", "cpu", "--precision", "fp32"]
    files = ["--sd", str(tiny_sd), "--lora", str(lora)]
    return restore_main(
        ["--input", source, "--output", "out", "--quiet", *common, *files, *options]
    )


def test_any_size_enlarged_merged_and_logged(photos, tiny_sd, lora):
    assert osediff(tiny_sd, lora, "--upscale", "2", "--log-file", "log.json") == 0
    assert read_image("out/a.png").image.shape == (3, 40, 28)
    assert read_image("out/b.png").image.shape == (3, 18, 62)
    assert '"osediff.pkl"' in (photos / "log.json").read_text()
    before = cli_cases.pixels("out/a.png")
    assert osediff(tiny_sd, lora, "--upscale", "2", "--merge") == 0
    assert np.abs(cli_cases.pixels("out/a.png") - before).max() <= 1


def test_sixteen_bits_stay(photos, tiny_sd, lora):
    samples = torch.randint(0, 65536, (3, 12, 18)).to(torch.uint16)
    write_image("deep.png", samples, Photo(samples, bit_depth=16))
    assert read_image("deep.png").samples.dtype == torch.uint16
    assert osediff(tiny_sd, lora, source="deep.png") == 0
    made = read_image("out/deep.png")
    assert made.samples.dtype == torch.uint16
    assert len(set((made.samples.int() % 256).flatten().tolist())) > 100


def test_each_photo_has_its_text(photos, tiny_sd, lora, capsys):
    assert osediff(tiny_sd, lora, "--prompts", "texts") == 1
    assert "b.png: the prompt texts/b.txt cannot be read" in capsys.readouterr().err
    told = Image.open("out/a.png").tobytes()
    assert osediff(tiny_sd, lora, "--prompt", "a brick wall") == 0
    assert Image.open("out/a.png").tobytes() == told
    assert osediff(tiny_sd, lora) == 0
    assert Image.open("out/a.png").tobytes() != told


WRONG = [
    (("--prompt", "a", "--prompts", "texts"), "--prompt, --prompts: give only one of them"),
    (("--prompts", "nowhere"), "--prompts: no such folder: nowhere"),
    (("--task", "dehaze"), "--task: --method osediff restores 'blind', got 'dehaze'"),
    (("--weights", "x"), "--weights: --method osediff does not use it; see --lora"),
    (("--fidelity", "0.5"), "--fidelity: only --method diffbir uses it"),
    (("--steps", "4"), "OSEDiff takes 1 step"),
    (("--lora", "photos/a.png"), "photos/a.png: was not written by PyTorch"),
    (("--sd", "photos"), "photos: without unet/config.json"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_mistakes_are_one_line(photos, tiny_sd, lora, capsys, options, message):
    assert osediff(tiny_sd, lora, *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_files_it_says_which_are_needed(photos, capsys):
    assert restore_main(["--input", "photos", "--method", "osediff"]) == 2
    error = capsys.readouterr().err
    assert "--method osediff needs --sd DIR (the folder of Stable Diffusion 2.1" in error
    assert "--lora FILE (osediff.pkl of github.com/cswry/OSEDiff" in error
    assert restore_main(["--input", "photos", "--lora", "x"]) == 2
    assert "--lora: only --method osediff uses it" in capsys.readouterr().err


def test_the_memory_limit_holds_for_reading(photos, tiny_sd, lora, capsys):
    assert osediff(tiny_sd, lora, "--max-memory", "1M") == 1
    assert "b.png: max memory: decoding 31x9 pixels needs" in capsys.readouterr().err
    assert not list(photos.glob("out/*.png"))
