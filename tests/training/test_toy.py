"""The toy options train from nothing to a model that the restore command can use."""

from pathlib import Path

import pytest

from refusion.cli import restore, train
from refusion.images.io import read_image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "toy_unet"])
def test_toy_end_to_end(tmp_path, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    options = ["-opt", f"options/{name}.yml", "--runs", str(tmp_path), "--quiet"]
    assert train.run(options) == 0
    weights = tmp_path / name / "model.safetensors"
    photo, result = ROOT / "tests" / "photos" / "oceanic__188029.jpg", tmp_path / "out.png"
    arguments = ["--weights", weights, "--input", photo, "--output", result, "--quiet"]
    assert restore.run([str(word) for word in arguments]) == 0
    assert read_image(result).image.shape == read_image(photo).image.shape
    assert list((tmp_path / name / "tensorboard").iterdir())
