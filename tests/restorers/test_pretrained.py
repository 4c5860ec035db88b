"""`from_pretrained` and `save_pretrained`: the same results, by every way that names weights."""

import pytest
import torch

from refusion import cli, load_restorer
from refusion.checkpoint import read_checkpoint
from refusion.errors import CheckpointError, ConfigError, ImageError
from refusion.images.io import read_image, write_image
from refusion.restorers import ArrayRestorer, load_prior
from refusion.runtime import load_model

PHOTO = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
HOW = {"device": "cpu", "precision": "fp32"}


@pytest.mark.parametrize("kind", ["unet", "pixel", "blind"])
def test_a_saved_model_gives_the_same_results(tiny_checkpoint, tmp_path, kind):
    path = tiny_checkpoint(kind)
    restorer = ArrayRestorer.from_pretrained(path, **HOW)
    restorer.to("cpu", "fp32").save_pretrained(tmp_path / "model")
    expected = restorer(PHOTO)
    assert not torch.equal(expected, PHOTO)
    for source in (tmp_path / "model", str(tmp_path / "model"), read_checkpoint(path)):
        assert torch.equal(load_restorer(source, **HOW)(PHOTO), expected)
    assert torch.equal(ArrayRestorer.from_pretrained(tmp_path / "model", **HOW)(PHOTO), expected)
    stored = read_checkpoint(tmp_path / "model")
    assert stored.info == read_checkpoint(path).info
    assert {t.dtype for t in stored.tensors.values()} == {
        t.dtype for t in read_checkpoint(path).tensors.values()
    }


def test_commands_take_a_folder(tiny_checkpoint, tmp_path, capsys):
    load_restorer(tiny_checkpoint("pixel"), **HOW).save_pretrained(tmp_path / "model")
    write_image(tmp_path / "a.png", PHOTO)
    argv = ["restore", str(tmp_path / "a.png"), "--weights", str(tmp_path / "model")]
    assert cli.main([*argv, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "a.png").exists()
    assert cli.main(["info", str(tmp_path / "model")]) == 0
    assert "dehaze" in capsys.readouterr().out


def test_a_folder_that_is_no_model_gives_one_line(tmp_path, capsys):
    write_image(tmp_path / "a.png", PHOTO)
    argv = ["restore", str(tmp_path / "a.png"), "--weights", str(tmp_path)]
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is a folder without config.json and model.safetensors" in line
    with pytest.raises(CheckpointError, match="is a folder without"):
        load_restorer(tmp_path)


def test_a_prior_may_lie_in_such_a_folder(tmp_path):
    load_restorer("denoise", **HOW).save_pretrained(tmp_path / "prior")
    assert load_prior(tmp_path / "prior", **HOW).network is not None


@pytest.mark.parametrize("wrong", [None, 3, b"x", ""])
def test_what_is_no_path_gives_one_line(tiny_checkpoint, wrong):
    restorer = load_restorer(tiny_checkpoint("pixel"), **HOW)
    for call in (
        restorer.save_pretrained,
        ArrayRestorer.from_pretrained,
        load_restorer,
        load_prior if wrong is not None else load_restorer,
        load_model,
        read_checkpoint,
    ):
        with pytest.raises(CheckpointError, match=r"^\w+: expected a .*, got [^\n]+$"):
            call(wrong)
    for call in (read_image, lambda path: write_image(path, PHOTO)):
        with pytest.raises(ImageError, match=r"^\w+_image: expected .*, got [^\n]+$"):
            call(wrong)


def test_a_restorer_without_weights_cannot_be_saved(tmp_path):
    restorer = ArrayRestorer(lambda *_: None)
    with pytest.raises(ConfigError, match="not loaded from weights"):
        restorer.save_pretrained(tmp_path)
