"""The benchmark of blind restoration: the same degradations for everyone, and means that add up."""

import pytest
import torch
from torch.nn.functional import interpolate

from benchmarks import blind
from refusion.images.io import write_image


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
    options = [*argv, "--reduction", "1"]
    larger = blind.measure(blind.build_parser().parse_args(options))
    assert sum(row.given["psnr"] for row in larger) > sum(row.given["psnr"] for row in rows)
