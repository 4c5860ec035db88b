"""The benchmark of DDRM: its baselines, its table, and that it runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ddrm import (
    cropped,
    inner,
    main,
    markdown_table,
    motion_kernel,
    plain,
    problems,
    total_variation,
)
from refusion.errors import ConfigError
from refusion.images.io import write_image
from refusion.operators import BlockMean, Identity
from refusion.restorers.ddrm.priors import Prior
from refusion.sde import VPSDE

ALPHA_BAR = VPSDE().alpha_bar


def steps_photo(side: int = 32) -> Tensor:
    """Two flat halves."""
    photo = torch.full((1, 3, side, side), 0.3)
    photo[..., side // 2 :] = 0.7
    return photo


def noise(*shape):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def gray_prior(monkeypatch):
    """Pixels are N(0, 1/4) in [-1, 1] units, each by itself."""

    def predict(xt, t):
        a = float(ALPHA_BAR[t])
        return xt * (1 - a) ** 0.5 / (0.25 * a + 1 - a)

    prior = Prior(predict, ALPHA_BAR, 16, 20, torch.device("cpu"), "fp32")
    monkeypatch.setattr("benchmarks.ddrm.load_prior", lambda source, device: prior)


@pytest.fixture
def photos(tmp_path):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", steps_photo()[0])
    return str(tmp_path)


def test_total_variation_smooths_flat_areas_and_keeps_the_data():
    pytest.importorskip("skimage")
    photo = steps_photo()
    y = photo + noise(1, 3, 32, 32)
    smooth = total_variation(Identity((3, 32, 32)), y, y, 0.1, 5)
    assert float((smooth - photo).square().mean()) < 0.1 * float((y - photo).square().mean())
    operator = BlockMean((3, 32, 32), 4)
    y = operator.forward(photo)
    start = torch.full_like(photo, 0.5)
    found = total_variation(operator, y, start, 1e-4, 200)
    assert float((operator.forward(found) - y).abs().max()) < 0.01
    assert float((found - photo).abs().max()) < 0.02  # the edge lies between blocks


def test_what_one_sees_without_restoring():
    photo = steps_photo()
    assert plain(torch.zeros(1, 3, 8, 8), photo).shape == photo.shape
    assert torch.equal(plain(torch.zeros(1, 3, 77), photo), torch.full_like(photo, 0.5))
    assert torch.equal(plain(photo.mean(1, keepdim=True), photo), photo)


def test_the_table_has_means_and_the_best_bold():
    row = {"plain": 20.0, "pseudo-inverse": 21.0, "total variation": 24.0, "DDRM, mean": 26.0}
    other = {**row, "total variation": 29.0, "DDRM, mean": 26.5}
    lines = markdown_table({"sr4": [row, other]}).splitlines()
    assert lines[0] == "| task | plain | pseudo-inverse | total variation | DDRM, mean |"
    assert lines[2] == "| sr4 | 20.00 | 21.00 | **26.50** | 26.25 |"
    sampled = [{**each, "DDRM, sample": 30.0} for each in (row, other)]
    assert markdown_table({"sr4": sampled}).splitlines()[2].endswith("| 26.25 | **30.00** |")


def test_crops_are_in_the_middle_and_whole_blocks():
    photo = torch.arange(50.0).expand(1, 3, 40, 50)
    found = cropped(photo, 20)
    assert found.shape == (1, 3, 16, 16) and found[0, 0, 0, 0] == 17
    assert cropped(photo, None).shape == (1, 3, 32, 48)
    with pytest.raises(ConfigError, match="16 pixels or more"):
        cropped(photo, 9)


def test_the_light_of_a_motion_comes_from_beyond_the_borders():
    problem, wide = problems((48, 64))["deblur motion"], steps_photo(64)[..., :48, :]
    assert problem.margin == (7, 7) and inner(wide, problem.margin).shape == (1, 3, 34, 50)
    kernel = motion_kernel()
    assert float(kernel.sum()) == pytest.approx(1)
    seen = inner(problem.operator((3, 48, 64)).forward(wide), problem.margin)
    expected = F.conv2d(wide.transpose(0, 1), kernel.flip(0, 1)[None, None].float())
    torch.testing.assert_close(seen, expected.transpose(0, 1), atol=1e-5, rtol=0)
    y = torch.rand(1, 3, 77)  # data that are no image
    assert torch.equal(inner(y, (0, 0)), y)


def test_it_measures_every_task(gray_prior, photos, capsys):
    pytest.importorskip("skimage")
    main(["--photos", photos, "--steps", "3", "--tv-steps", "2", "--limit", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {t}" for t in problems((16, 16))]
    denoised = [float(w.strip("*| ")) for w in lines[2].split(" | ")[1:]]
    assert 25 < denoised[0] < 27  # noise of 0.05 is 26.0 dB
    assert denoised[1] == pytest.approx(denoised[0], abs=0.01) and denoised[2] > denoised[0] + 3
    # The mean of independent Gaussian pixels is nearer than a sample of them.
    assert len(denoised) == 5 and denoised[3] > denoised[4] + 1


def test_the_mean_alone(gray_prior, photos, capsys):
    pytest.importorskip("skimage")
    command = ["--photos", photos, "--tv-steps", "1", "--tasks", "sr4", "--crop", "16"]
    main([*command, "--no-samples", "--mean-steps", "2"])
    assert capsys.readouterr().out.splitlines()[0].endswith("| total variation | DDRM, mean |")


def test_the_noise_is_as_asked_and_unknown_tasks_are_refused(gray_prior, photos, capsys):
    pytest.importorskip("skimage")
    command = ["--photos", photos, "--steps", "1", "--tv-steps", "1", "--tasks", "denoise"]
    main([*command, "--sigma", "0.1", "--crop", "16"])
    assert 19 < float(capsys.readouterr().out.splitlines()[2].split(" | ")[1]) < 21
    with pytest.raises(ConfigError, match="--tasks: expected some of denoise, sr4mean"):
        main([*command, "sr5"])
