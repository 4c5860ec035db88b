"""Pages of photos kept out of training."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import gallery
from refusion.config.parser import Component
from refusion.synthesis.degradations import build_degradation
from refusion.weights import ABOUT

PHOTOS = Path(__file__).parents[1] / "photos"


def sample(name, error):
    clean = torch.full((3, 30, 48), 0.5)
    return {"name": name, "gt": clean, "lq": clean + error}


def test_the_photo_with_the_smallest_gain_comes_first(monkeypatch):
    seen = []

    class Restorer:
        def restore(self, photo):
            return photo - 0.1  # right for the first photo, wrong for the second one

    monkeypatch.setattr(gallery, "load_restorer", lambda task: Restorer())
    monkeypatch.setattr(gallery, "contact_sheet", lambda rows, side: seen.extend(rows))
    monkeypatch.setattr(gallery, "captioned", lambda photo, caption: caption)
    gallery.page("dehaze", iter([sample("a__good", 0.1), sample("a__bad", 0.05)]))
    assert [row["truth"] for row in seen] == ["bad", "good"]
    assert seen[0]["degraded"] == "26.0 dB"
    assert seen[0]["restored"] == "26.0 dB"
    assert float(seen[1]["restored"].split()[0]) > 100


def test_clean_photos_have_two_columns_the_most_changed_first(monkeypatch):
    seen = []

    class Restorer:
        def restore(self, photo):
            return photo * (0.99 if photo[0, 0, 0, 0] > 0.5 else 0.9)

    monkeypatch.setattr(gallery, "load_restorer", lambda task: Restorer())
    monkeypatch.setattr(gallery, "contact_sheet", lambda rows, side: seen.extend(rows))
    monkeypatch.setattr(gallery, "captioned", lambda photo, caption: caption)
    levels = {"a__little": 0.8, "b__much": 0.5, "c__more": 0.6}
    photos = {name: torch.full((3, 30, 48), level) for name, level in levels.items()}
    samples = [{"name": name, "gt": photo, "lq": photo} for name, photo in photos.items()]
    gallery.page("dehaze", iter(samples), below=43.0)
    assert seen == [
        {"photo": "much", "restored": "26.0 dB"},
        {"photo": "little", "restored": "41.9 dB"},
    ]


def test_excluded_photos_are_left_out():
    source = gallery.Source(gallery.NONE, held_out=2, max_side=64)
    every = list(gallery.items(source, [PHOTOS], PHOTOS))
    assert all(torch.equal(item["lq"], item["gt"]) for item in every)
    names = {path.name for path in PHOTOS.iterdir() if path.stem == every[0]["name"]}
    some = list(gallery.items(source, [PHOTOS], PHOTOS, names))
    assert [item["name"] for item in some] == [item["name"] for item in every[1:]]


def test_a_photo_stands_above_its_line():
    picture = gallery.captioned(torch.zeros(1, 3, 300, 480), "20.0 dB")
    assert picture.size == (gallery.SIDE, gallery.SIDE * 300 // 480 + gallery.CAPTION)
    assert picture.getpixel((5, 5)) == (0, 0, 0)
    assert picture.getpixel((gallery.SIDE - 1, picture.height - 1)) == (255, 255, 255)


def test_only_photos_kept_out_are_shown():
    source = gallery.Source(Component("Haze"), held_out=2, max_side=64, most=2)
    assert len(list(gallery.items(source, [PHOTOS], PHOTOS))) == 2
    with pytest.raises(StopIteration):  # the photos of the tests have other names than Kodak's
        next(gallery.items(gallery.Source(Component("Haze"), max_side=64), [PHOTOS], PHOTOS))


def test_the_command_writes_a_page_per_task(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "page", lambda task, samples, below: Image.new("RGB", (4, 4)))
    folders = ["--photos", str(PHOTOS), "--kodak", str(PHOTOS), "--out", str(tmp_path)]
    gallery.main([*folders, "--task", "blind", "dehaze"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gallery_blind.jpg",
        "gallery_dehaze.jpg",
    ]


def test_every_page_has_a_task_and_degrades():
    for name, source in gallery.PAGES.items():
        assert gallery.TASKS.get(name, name) in ABOUT
        assert callable(build_degradation(source.degradation))
