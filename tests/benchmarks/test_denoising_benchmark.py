"""The benchmark of denoising: the same noise for every method, and means that add up."""

import math
from statistics import fmean

import pytest
import torch
from torch.nn.functional import interpolate

from benchmarks import denoising
from refusion.errors import ConfigError
from refusion.images.io import write_image


@pytest.fixture
def photos(tmp_path):
    for seed, name in enumerate(("a", "b", "c")):
        coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
        smooth = interpolate(coarse * 0.5 + 0.25, scale_factor=12, mode="bilinear")[0]
        write_image(tmp_path / f"{name}.png", smooth)
    return tmp_path


def test_photos_get_noise_and_every_method_a_score(photos, tiny_checkpoint):
    argv = [str(photos), "--weights", str(tiny_checkpoint("denoise")), "--names", "a", "c"]
    argv += ["--levels", "10", "25", "--steps", "1", "3", "--precision", "fp32"]
    found = denoising.measure(denoising.build_parser().parse_args(argv))
    assert list(found) == ["a", "c"]
    for level in (10.0, 25.0):
        for scores in (photo[level] for photo in found.values()):
            assert scores["noisy"] == pytest.approx(20 * math.log10(255 / level), abs=0.15)
            assert scores["estimate"] == pytest.approx(level, rel=0.15)
            assert scores["model, 1 steps"] != scores["model, 3 steps"] != scores["noisy"]
    text = denoising.run(argv)
    assert text == denoising.table(found)
    head, _, ten, _ = text.splitlines()
    column = head.split("|").index(" model, 3 steps ")
    mean = fmean(photo[10.0]["model, 3 steps"] for photo in found.values())
    assert float(ten.split("|")[column]) == pytest.approx(mean, abs=0.006)


def test_noise_of_a_camera_differs_by_photo(photos, tiny_checkpoint):
    argv = [str(photos), "--weights", str(tiny_checkpoint("denoise")), "--levels", "20"]
    options = denoising.build_parser().parse_args([*argv, "--noise", "camera"])
    noisy = [scores[20.0]["noisy"] for scores in denoising.measure(options).values()]
    nominal = 20 * math.log10(255 / 20)
    # The level is that of the sensor's noise. JPEG compression of some photos removes a part of it.
    assert all(nominal - 0.5 < score < nominal + 3 for score in noisy)
    assert len(set(noisy)) == 3


@pytest.mark.parametrize("noise", ["sensor", "film", "grey"])
def test_other_kinds_of_noise(photos, tiny_checkpoint, noise):
    argv = [str(photos), "--weights", str(tiny_checkpoint("denoise")), "--levels", "20"]
    options = denoising.build_parser().parse_args([*argv, "--noise", noise])
    nominal = 20 * math.log10(255 / 20)
    nominal += 20 * math.log10(1 / 0.6685) if noise == "grey" else 0  # of the luma
    scores = denoising.measure(options).values()
    assert fmean(photo[20.0]["noisy"] for photo in scores) == pytest.approx(nominal, abs=2.0)


def test_classical_methods_remove_noise(photos, tiny_checkpoint):
    pytest.importorskip("skimage")
    argv = [str(photos), "--weights", str(tiny_checkpoint("denoise")), "--names", "a"]
    argv += ["--levels", "20", "--classical", "--crop", "32", "--clip"]
    (scores,) = denoising.measure(denoising.build_parser().parse_args(argv))["a"].values()
    for method in ("total variation", "non-local means"):
        assert scores[method] > scores["noisy"] + 5


def test_missing_photos_are_one_error(photos, tiny_checkpoint):
    argv = [str(photos), "--weights", str(tiny_checkpoint("denoise")), "--names", "z"]
    with pytest.raises(ConfigError, match="no photos of these names"):
        denoising.run(argv)
