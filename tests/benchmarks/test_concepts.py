"""The program that makes the pictures of docs/concepts.md runs with models of each kind."""

import re

import pytest
from PIL import Image

from benchmarks import concepts


def test_the_picture_of_strengths_has_three_photos_and_their_names(tmp_path):
    assert concepts.main(["--only", "strength", "--output", str(tmp_path)]) == 0
    with Image.open(tmp_path / "concepts_strength.jpg") as picture:
        assert picture.size == (3 * 300 + 2 * concepts.GAP, 200 + concepts.LABEL)


def test_guided_upsampling_is_sharper_than_plain_enlargement(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(concepts, "strip", lambda path, made, columns: shown.update(made))
    concepts.main(["--only", "guided", "--output", str(tmp_path)])
    assert list(shown) == ["photo", "plain", "guided"]
    steepest = {name: picture.diff(dim=-2).abs().max() for name, picture in shown.items()}
    assert steepest["guided"] > 1.5 * steepest["plain"] > 0


def test_seams_need_a_latent_model_and_exact_tiles_have_none(
    tmp_path, tiny_checkpoint, monkeypatch, capsys
):
    monkeypatch.setattr(concepts, "HAZY", concepts.CLEAN)
    monkeypatch.setattr(concepts, "TILE", 128)
    only = ["--only", "seams", "--output", str(tmp_path)]
    assert concepts.main([*only, "--latent", str(tiny_checkpoint("latent"))]) == 0
    separate, exact = re.findall(r"difference (\S+) levels", capsys.readouterr().out)
    assert float(separate) > 1 > 0.01 > float(exact)
    with pytest.raises(SystemExit):
        concepts.main(only)
    assert "--latent" in capsys.readouterr().err
