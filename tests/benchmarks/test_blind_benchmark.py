"""The benchmark of blind restoration: the same degradations for everyone, and means that add up."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from benchmarks import blind
from refusion.errors import ConfigError
from refusion.images.io import write_image
from refusion.synthesis.degradations import DEGRADATIONS, build_degradation


def test_photos_are_degraded_restored_and_averaged(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        coarse = torch.rand(1, 3, 10, 14, generator=torch.Generator().manual_seed(seed))
        write_image(tmp_path / "photos" / f"{name}.png", interpolate(coarse, scale_factor=4)[0])
    argv = [str(tmp_path / "photos"), "--weights", str(tiny_checkpoint("blind")), "--draws", "2"]
    argv += ["--names", "a", "c", "--precision", "fp32"]
    rows = blind.measure(blind.build_parser().parse_args(argv))
    assert [row.name for row in rows] == ["a", "c", "a", "c"]
    assert rows[0].given != rows[2].given  # another draw, another degradation
    assert all(row.given != row.restored for row in rows)
    text = blind.run(argv)
    assert text == blind.table(rows)
    mean = sum(row.restored["psnr"] for row in rows) / 4
    last = text.splitlines()[-1]
    assert last.startswith("| mean of 4 |")
    assert float(last.split("|")[3].split()[0]) == pytest.approx(mean, abs=0.006)
    assert len(text.splitlines()) == 5
    assert (
        last.split("|")[5].strip()
        == f"{sum(r.filtered['median']['psnr'] for r in rows) / 4:.2f} dB"
    )
    options = [*argv, "--reduction", "1"]
    larger = blind.measure(blind.build_parser().parse_args(options))
    assert sum(row.given["psnr"] for row in larger) > sum(row.given["psnr"] for row in rows)


def test_clean_photos_stay_clean_for_the_input(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "a.png", torch.rand(3, 40, 56))
    argv = [str(tmp_path / "photos"), "--weights", str(tiny_checkpoint("blind"))]
    argv += ["--degradation", "none", "--precision", "fp32"]
    (row,) = blind.measure(blind.build_parser().parse_args(argv))
    assert math.isinf(row.given["psnr"])
    assert 0 < row.restored["psnr"] < 60 and 0 < row.filtered["median"]["psnr"] < 60


def test_the_filters_are_the_known_ones():
    photo = torch.full((1, 3, 9, 12), 0.4)
    photo[..., 4, 5] = 1.0  # a single pixel
    assert torch.equal(blind.median(photo), torch.full_like(photo, 0.4))
    noisy = 0.4 + 0.02 * torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    noisy[..., 15:] += 0.5
    smooth = blind.bilateral(noisy)
    assert float(smooth[..., :15].std()) < 0.5 * float(noisy[..., :15].std())
    step = smooth[..., 15].mean() - smooth[..., 14].mean()
    assert float(step) == pytest.approx(0.5, abs=0.02)  # the edge stays
    assert float(blind.bilateral(photo)[0, 0, 4, 4]) == pytest.approx(0.4, abs=1e-4)


def test_a_degradation_is_a_name_or_a_section_or_none():
    assert blind.degradation_of("FirstOrder") == {"type": "FirstOrder"}
    assert blind.degradation_of("SecondOrder", 2)["reduction"] == [2, 2]
    section = blind.degradation_of("{type: Jpeg, quality: [10, 20]}")
    assert build_degradation(section) == DEGRADATIONS["Jpeg"]((10, 20))
    assert build_degradation(blind.degradation_of("none")).clean_share == 1
    for text in ("Jpg", "[Jpeg]", "{quality: [10, 20]}", "{type: Jpeg", "3"):
        with pytest.raises(ConfigError):
            build_degradation(blind.degradation_of(text))
