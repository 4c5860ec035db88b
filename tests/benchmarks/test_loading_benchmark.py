"""The benchmark of data loading: every row is measured, and checkouts take turns."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import loading
from refusion.synthesis.degradations import DEGRADATIONS


@pytest.fixture
def photos(tmp_path, monkeypatch) -> str:
    """Two small photos; the cache lies in the temporary folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (300, 280, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return str(tmp_path / "photos")


def test_every_degradation_of_the_table_exists() -> None:
    assert set(loading.SCENES) | set(loading.OWN_SCALE) <= set(DEGRADATIONS)


def test_a_row_compares_two_checkouts(photos: str, capfd) -> None:
    command = ["--degradations", "Haze", "--sizes", "32", "--crops", "1", "4", "--rounds", "1"]
    root = str(loading.ROOT)
    loading.main([photos, *command, "--seconds", "0.02", "--against", root])
    head, *rows = capfd.readouterr().out.splitlines()
    assert head.split()[-3:] == ["samples/s/core", "before", "ratio"]
    assert [row.split()[:3] for row in rows] == [["Haze", "32", "1"], ["Haze", "32", "4"]]
    for row in rows:
        now, before, ratio = map(float, row.split()[3:])
        assert now > 0 < before
        assert ratio == pytest.approx(now / before, rel=0.02, abs=0.006)


def test_the_other_checkout_is_the_one_that_is_measured(photos: str, tmp_path, capfd) -> None:
    other = tmp_path / "other"
    command = [photos, "--degradations", "Haze", "--sizes", "32", "--against", str(other)]
    with pytest.raises(SystemExit):
        loading.main(command)
    assert "--against: no checkout in" in capfd.readouterr().err
    (other / "refusion").mkdir(parents=True)
    (other / "refusion" / "__init__.py").write_text("raise SystemExit('the other package')")
    with pytest.raises(SystemExit, match="a measurement failed"):
        loading.main([*command, "--seconds", "0.02"])
    assert "the other package" in capfd.readouterr().err


def test_only_samples_whose_photos_are_in_the_cache_count(monkeypatch) -> None:
    """Clock and samples are fakes: a photo takes 10 s, a sample 1 s."""
    made, clock = [], [0.0]

    class Dataset:
        def __getitem__(self, index: int) -> None:
            clock[0] += 1 if index in made else 11
            made.append(index)

    monkeypatch.setattr(loading.time, "process_time", lambda: clock[0])
    assert loading.samples_per_second(Dataset(), 50, 1000) == 1.0
    assert made == [1000, 1001, 1002, 1003, 1004, 0, 1000, 1001, 1002, 1003, 1004]


def test_reading_of_files_is_measured(photos: str, capfd) -> None:
    loading.main([photos, "--patches", "4"])
    out = capfd.readouterr().out
    assert "2 photos, patches of 256 px" in out
    assert "cache, in memory" in out
