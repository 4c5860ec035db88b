"""Stereo pairs as one job of two files, and results larger than the photo."""

from pathlib import Path

import pytest
import torch

from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import plan_jobs
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo


class Swap:
    """Stands in for a stereo restorer: the result is the other view, at `scale`."""

    views, colours, device, optional = 2, False, "cpu", ()

    def __init__(self, scale=1):
        self.info, self.scale = self, scale

    def restore(self, lq, **_):
        left, right = lq.split(3, dim=1)
        pair = torch.cat([right, left], dim=1)
        return pair.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Pairs a and sub/b, a view without partner, a photo that is no view."""
    monkeypatch.chdir(tmp_path)
    names = ["a_L.png", "a_R.png", "sub/b_R.tif", "sub/b_L.tif", "c_L.png", "c_R.jpg", "a.png"]
    for number, name in enumerate(names):
        save(f"in/{name}", number)


def save(name, number, size=(8, 10)):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_image(name, torch.full((3, *size), number / 10))


def value(name):
    return round(float(read_image(name).image.mean()) * 10)


def pairs(jobs):
    return [tuple(file.input.as_posix() for file in job.photos) for job in jobs]


def test_pairs_are_found_by_name_and_the_rest_is_named(folder):
    jobs = plan_jobs(["in"], views=2)
    assert pairs(jobs) == [
        ("in/a.png",),
        ("in/a_L.png", "in/a_R.png"),
        ("in/c_L.png",),
        ("in/c_R.jpg",),
        ("in/sub/b_L.tif", "in/sub/b_R.tif"),
    ]
    outcomes = run_jobs(jobs, Swap(), RestoreOptions())
    alone = [outcome.error for outcome in outcomes if outcome.error]
    assert [error.split(": the other view is missing; ")[0] for error in alone] == [
        "in/a.png",
        "in/c_L.png",
        "in/c_R.jpg",
    ]
    written = sorted(path.as_posix() for path in Path("results").rglob("*.*"))
    assert written == [f"results/{n}" for n in ("a_L.png", "a_R.png", "sub/b_L.tif", "sub/b_R.tif")]
    # Left result into the left file: of a it shows the right photo, number 1.
    assert (value("results/a_L.png"), value("results/a_R.png")) == (1, 0)
    assert (value("results/sub/b_L.tif"), value("results/sub/b_R.tif")) == (2, 3)


def test_two_files_given_are_left_and_right(folder):
    save("x.png", 4)
    save("y.jpg", 6)
    assert pairs(plan_jobs(["y.jpg", "x.png"], views=2)) == [("y.jpg", "x.png")]
    assert pairs(plan_jobs(["in/a_R.png", "in/a_L.png"], views=2)) == [("in/a_L.png", "in/a_R.png")]
    Path("two").mkdir()
    save("two/x.png", 4)
    save("two/y.png", 6)
    assert pairs(plan_jobs(["two"], views=2)) == [("two/x.png",), ("two/y.png",)]
    assert len(plan_jobs(["x.png", "y.jpg", "in/a.png"], views=2)) == 3
    assert len(plan_jobs(["x.png", "y.jpg"])) == 2


def test_views_of_two_sizes_are_refused(folder):
    save("in/a_R.png", 1, (8, 11))
    (outcome,) = run_jobs(
        plan_jobs(["in/a_L.png", "in/a_R.png"], views=2), Swap(), RestoreOptions()
    )
    assert outcome.error == (
        "in/a_L.png: 10x8 pixels, but in/a_R.png has 11x8; the views of a pair must have one size"
    )
    assert not Path("results").exists() or not list(Path("results").iterdir())


def test_each_view_has_its_comparison(folder):
    jobs = plan_jobs(["in/a_L.png", "in/a_R.png"], views=2, compare=True)
    assert run_jobs(jobs, Swap(scale=2), RestoreOptions())[0].error is None
    for name, before, after in (("a_L", 0, 1), ("a_R", 1, 0)):
        both = read_image(f"results/{name}_compare.png").image
        assert both.shape == (3, 16, 40)
        left, right = both.chunk(2, dim=-1)
        assert (round(float(left.mean()) * 10), round(float(right.mean()) * 10)) == (before, after)


def test_what_the_file_carries_grows_with_the_photo(tmp_path):
    alpha = torch.zeros(1, 8, 10)
    alpha[..., 5:] = 1
    photo = Photo(torch.rand(3, 8, 10), alpha=alpha, bit_depth=16, dpi=(300.0, 300.0))
    source = tmp_path / "p.png"
    write_image(source, photo.image, photo)

    class Enlarge(Swap):
        views = 1

        def restore(self, lq, **_):
            return lq.repeat_interleave(3, -1).repeat_interleave(3, -2)

    (outcome,) = run_jobs(plan_jobs([source], tmp_path / "out"), Enlarge(), RestoreOptions())
    assert outcome.error is None
    result = read_image(tmp_path / "out/p.png")
    assert result.image.shape == (3, 24, 30)
    assert result.bit_depth == 16
    assert result.dpi == pytest.approx((300, 300), abs=0.1)
    expected = alpha.repeat_interleave(3, -1).repeat_interleave(3, -2)
    soft = (result.alpha - expected).abs()
    assert float(soft[..., :13].max()) == float(soft[..., 17:].max()) == 0


def test_a_pair_is_done_when_both_views_are(folder):
    skip, jobs = RestoreOptions(skip_existing=True), plan_jobs(["in/sub"], views=2)
    run_jobs(jobs, Swap(), RestoreOptions())
    Path("results/b_R.tif").unlink()
    (outcome,) = run_jobs(jobs, Swap(), skip)
    assert not outcome.skipped and outcome.sizes == ((10, 8), (10, 8))
    (outcome,) = run_jobs(jobs, Swap(), skip)
    assert outcome.skipped


def test_views_of_two_bit_depths_are_restored(folder):
    deep = torch.full((3, 8, 10), 0.6)
    write_image("in/a_R.png", deep, Photo(deep, bit_depth=16))
    (outcome,) = run_jobs(
        plan_jobs(["in/a_L.png", "in/a_R.png"], views=2), Swap(), RestoreOptions()
    )
    assert outcome.error is None
    assert (value("results/a_L.png"), value("results/a_R.png")) == (6, 0)
    assert read_image("results/a_R.png").bit_depth == 16


def test_each_view_has_its_map(folder):
    class Guess(Swap):
        def restore(self, lq, *, seed, **_):
            return torch.cat([lq[:, :3], lq[:, 3:] + 0.01 * seed], dim=1)

    jobs = plan_jobs(["in/a_L.png", "in/a_R.png"], views=2, uncertainty="maps")
    (outcome,) = run_jobs(jobs, Guess(), RestoreOptions(samples=3))
    assert outcome.error is None
    maps = [read_image(f"maps/a_{view}_uncertainty.png").image for view in "LR"]
    assert not maps[0].any()
    torch.testing.assert_close(maps[1], torch.full_like(maps[1], 0.1), atol=1e-3, rtol=0)
