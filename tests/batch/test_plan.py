"""Folders as inputs: what is planned, and what is counted and said."""

from __future__ import annotations

import pytest
import torch

from refusion.batch.plan import plan_jobs
from refusion.errors import ConfigError, ImageError
from refusion.images import packages
from refusion.images.io import write_image


def planned(*inputs, **options):
    return [str(job.photos[0].output) for job in plan_jobs(list(inputs), "out", **options)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("in/b.jfif", "in/a.png", "in/sub/c.mpo"):
        path = tmp_path / name
        kind = ".png" if name.endswith(".png") else ".jpg"
        write_image(path.with_suffix(kind), torch.rand(3, 8, 8))
        path.with_suffix(kind).rename(path)
    return tmp_path / "in"


def test_the_results_keep_the_names_of_the_photos(folder, caplog):
    assert planned("in") == ["out/a.png", "out/b.jfif", "out/sub/c.mpo"]
    assert planned("in", recursive=False) == ["out/a.png", "out/b.jfif"]
    assert caplog.text == ""


def test_everything_that_is_left_out_is_counted_once(folder, caplog):
    (folder / "x.gif").touch()
    (folder / "sub" / "y.gif").touch()
    (folder / "z.bmp").touch()
    (folder / "noname").write_bytes((folder / "b.jfif").read_bytes())
    (folder / "linked").symlink_to(folder)
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    assert len(planned("in")) == 3
    messages = sorted(record.message for record in caplog.records)
    assert messages == [
        "in: 1 left out: BMP is not supported, convert it to JPEG, PNG, TIFF or WebP first",
        "in: 1 left out: JPEG without the suffix of an image; rename it to NAME.jpg",
        "in: 1 left out: broken link",
        "in: 1 left out: linked folder, which is not searched; give it as an input of its own",
        "in: 2 left out: GIF is not supported, convert it to JPEG, PNG, TIFF or WebP first",
    ]


def test_the_results_of_heic_and_raw_have_another_format(folder, monkeypatch):
    monkeypatch.setattr(packages, "_is_there", lambda module: True)
    for name in ("x.HEIC", "y.NEF", "sub/z.dng", "sub/z.tif", "a.heif", "v.jxl", "w.avif"):
        (folder / name).touch()
    for name in ("a.jpg", "b.arw"):
        (folder / name).touch()
    assert sorted(planned("in")) == [
        *("out/a-heif.jpg", "out/a.jpg", "out/a.png", "out/b.jfif", "out/b.tif", "out/sub/c.mpo"),
        *(
            "out/sub/z-dng.tif",
            "out/sub/z.tif",
            "out/v.jxl",
            "out/w.avif",
            "out/x.jpg",
            "out/y.tif",
        ),
    ]

    def as_jpeg(path):
        return path.with_suffix(".jpg")

    with pytest.raises(ConfigError, match=r"would both become 'out/a\.jpg'"):
        planned("in", rename=as_jpeg)
    (folder / "a.png").unlink()
    (folder / "sub/z.tif").unlink()
    assert "out/b-arw.jpg" in planned("in", rename=as_jpeg)


def test_heic_cannot_be_written(folder):
    with pytest.raises(ConfigError, match=r"'result.heic': results are \.jpg"):
        plan_jobs(["in/a.png"], "result.heic")
    with pytest.raises(ConfigError, match=r"'result.dng': results are \.jpg"):
        plan_jobs(["in/a.png"], "result.dng")


def test_missing_packages_are_named_before_the_work(folder, monkeypatch, caplog):
    (folder / "x.heic").touch()
    monkeypatch.setattr(packages, "_is_there", lambda module: False)
    with pytest.raises(ImageError, match=r"x.heic: HEIC needs .*: pip install 'refusion\[photo\]'"):
        planned("in/x.heic")
    with pytest.raises(ConfigError, match=r"'out/a.avif': AVIF needs the package imagecodecs"):
        planned("in", rename=lambda path: path.with_suffix(".avif"))
    assert "out/x.jpg" not in planned("in") and "1 left out: HEIC needs" in caplog.text


def test_a_linked_folder_is_read_if_it_is_an_input(folder, tmp_path):
    (tmp_path / "linked").symlink_to(folder)
    assert planned("linked") == ["out/a.png", "out/b.jfif", "out/sub/c.mpo"]


def test_a_folder_without_images_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.gif").touch()
    with pytest.raises(ImageError, match="no images in in"):
        planned("in")
    assert "1 left out: GIF" in caplog.text and "in: no images in it (JPEG" in caplog.text


def test_a_result_may_have_any_suffix_of_a_jpeg(folder):
    (job,) = plan_jobs(["in/a.png"], "result.jfif")
    assert str(job.photos[0].output) == "result.jfif"
    with pytest.raises(ConfigError, match=r"results are \.jpg"):
        plan_jobs(["in/a.png"], "result.bmp")
