"""What a batch will not read or write is said before anything is restored."""

import os
from pathlib import Path

import pytest
import torch

from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import plan_jobs
from refusion.errors import ConfigError
from refusion.images.io import write_image


class Never:
    """Stands in for a restorer that must not be asked."""

    views, scale, colours, device, optional = 1, 1, False, "cpu", ()

    @property
    def info(self):
        return self

    def restore(self, *_, **__):
        raise AssertionError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/sub/b.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_image(name, torch.rand(3, 8, 10))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("locked/a.png", "locked/a.png: no permission to write to its folder"),
        ("in/a.png/b.png", "in/a.png/b.png: its folder cannot be created"),
        (
            "wide.webp",
            "wide.webp: 17000x2 is too large, a WEBP side has at most 16383 pixels; "
            "choose a .png or",
        ),
    ],
)
def test_a_place_that_will_not_do_is_told_before_restoring(photos, monkeypatch, output, reason):
    write_image("in/a.png", torch.rand(3, 2, 17000))
    # Root may write wherever the mode says that nobody may.
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "locked")
    (outcome,) = run_jobs(plan_jobs(["in/a.png"], output), Never(), RestoreOptions())
    assert outcome.error.startswith(reason)


@pytest.mark.parametrize("name", ["b.gif", "b.HEIC", "b.bmp", "b.dng"])
def test_a_result_of_another_kind_is_no_folder(photos, name):
    with pytest.raises(ConfigError, match=rf"output: '{name}': results are .jpg"):
        plan_jobs(["in/a.png"], name)
    assert plan_jobs(["in"], name)[0].photos[0].output.parent == Path(name)


def test_photos_of_a_kind_that_is_not_read_are_counted(photos, caplog):
    for name in ("1.GIF", "2.gif", "sub/3.jp2", ".hidden/4.gif", "5.txt"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).touch()
    jobs = plan_jobs(["in"])
    assert [job.photos[0].input.suffix for job in jobs] == [".png", ".jpg"]
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == [
        "in: 1 left out: JPEG 2000 is not supported, convert it to JPEG, PNG, TIFF or WebP first",
        "in: 2 left out: GIF is not supported, convert it to JPEG, PNG, TIFF or WebP first",
    ]
