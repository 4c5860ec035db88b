"""What is read and written in a batch, and what happens to photos that fail."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import Job, PhotoFiles, plan_jobs
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.samples import to_float
from refusion.restorers import Conditions


@dataclass
class Darken:
    """Stands in for a restorer; raises what `faults` says for photos of that height."""

    faults: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)
    views: int = 1
    scale: int = 1
    colours: bool = False
    device: str = "cpu"
    optional: frozenset = frozenset()

    @property
    def info(self):
        return self

    def restore(self, lq, *, steps, sampler, seed, tile, conditions, strength, callback):
        self.seen.append((steps, sampler, seed, tile, conditions, strength))
        callback("sample", 1, 1)
        if lq.shape[-2] in self.faults:
            raise self.faults[lq.shape[-2]]
        assert lq.shape[1] == 3 * self.views
        result = to_float(lq) * 0.5
        return result.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("in/a.png", "in/sub/b.jpg", "in/sub/c.tif", "in/.hidden.png")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_image(name, torch.rand(3, 8 + number, 10))
    return tmp_path


def names(jobs):
    assert all(len(job.photos) == 1 for job in jobs)
    return [(file.input.as_posix(), file.output.as_posix()) for job in jobs for file in job.photos]


def test_folders_keep_their_structure(photos):
    expected = [
        ("in/a.png", "results/a.png"),
        ("in/sub/b.jpg", "results/sub/b.jpg"),
        ("in/sub/c.tif", "results/sub/c.tif"),
    ]
    assert names(plan_jobs(["in"])) == expected
    assert names(plan_jobs(["in"], recursive=False)) == expected[:1]
    assert names(plan_jobs(["in/sub", "in/a.png"], "out")) == [
        ("in/sub/b.jpg", "out/b.jpg"),
        ("in/sub/c.tif", "out/c.tif"),
        ("in/a.png", "out/a.png"),
    ]


def test_one_file_may_name_its_output(photos):
    assert names(plan_jobs(["in/a.png"], "new/x.webp")) == [("in/a.png", "new/x.webp")]
    assert names(plan_jobs(["in/a.png"], "new")) == [("in/a.png", "new/a.png")]
    Path("folder.png").mkdir()
    assert names(plan_jobs(["in/a.png"], "folder.png")) == [("in/a.png", "folder.png/a.png")]
    for inputs in (["in"], ["in/a.png", "in/sub/b.jpg"]):
        with pytest.raises(ConfigError, match=r"'x\.jpg' names one file for several inputs"):
            plan_jobs(inputs, "x.jpg")


def test_two_photos_for_one_output_are_both_named(photos):
    write_image("a.png", torch.rand(3, 4, 4))
    with pytest.raises(ConfigError, match=r"'in/a\.png' and 'a\.png' .*results/a\.png"):
        plan_jobs(["in/a.png", "a.png"])
    write_image("in/a.jpg", torch.rand(3, 4, 4))
    assert len(plan_jobs(["in"])) == 4
    with pytest.raises(ConfigError, match=r"a_compare\.png"):
        plan_jobs(["in"], compare=True)
    assert len(plan_jobs(["in/a.png", "in/a.png"])) == 1  # the same one twice is one job


def test_names_that_differ_in_case_are_one_output_where_the_system_ignores_case(
    photos, monkeypatch
):
    Path("other").mkdir()
    for name in ("in/Café.png", "other/CAFE\u0301.PNG"):
        write_image(name, torch.rand(3, 4, 4))
    both = ["in/Café.png", "other/CAFE\u0301.PNG"]
    assert len(plan_jobs(both)) == 2
    monkeypatch.setattr("refusion.batch.plan.ignores_case", lambda folder: True)
    with pytest.raises(ConfigError, match="would both become"):
        plan_jobs(both)
    assert len(plan_jobs(["in"])) == 4


@pytest.mark.parametrize("output", ["in", "in/../in", "link"])
def test_inputs_are_never_overwritten(photos, output):
    Path("link").symlink_to("in")
    with pytest.raises(ConfigError, match="would overwrite the input"):
        plan_jobs(["in"], output)
    with pytest.raises(ConfigError, match="would overwrite the input"):
        plan_jobs(["in/a.png"], output)
    Path("hard.png").hardlink_to("in/a.png")
    with pytest.raises(ConfigError, match="would overwrite the input"):
        plan_jobs(["in/a.png"], "hard.png")


def test_results_of_an_earlier_run_are_not_inputs(photos):
    first = names(plan_jobs(["."]))
    Path("results/in").mkdir(parents=True)
    write_image("results/in/a.png", torch.rand(3, 4, 4))
    assert names(plan_jobs(["."])) == first
    assert len(names(plan_jobs(["."], "elsewhere"))) == len(first) + 1


def test_empty_folder_is_an_error_only_alone(photos, caplog):
    Path("empty").mkdir()
    with pytest.raises(ImageError, match="no images in empty"):
        plan_jobs(["empty"])
    assert len(plan_jobs(["empty", "in"])) == 3
    assert "no images in it" in caplog.text


def test_missing_input_is_a_job_that_fails(photos):
    jobs = plan_jobs(["gone.png", "in/a.png"])
    outcomes = run_jobs(jobs, Darken(), RestoreOptions())
    assert [outcome.error for outcome in outcomes] == ["gone.png: no such file", None]
    assert Path("results/a.png").exists()


def test_failures_are_one_line_and_the_rest_goes_on(photos):
    Path("in/bad.png").write_bytes(b"no image")
    Path("in/cut.jpg").write_bytes(Path("in/sub/b.jpg").read_bytes()[:200])
    faults = {
        8: RefusionError("not\nfinite"),
        9: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
    }
    outcomes = run_jobs(plan_jobs(["in"]), Darken(faults), RestoreOptions())
    errors = {outcome.job.photos[0].input.name: outcome.error for outcome in outcomes}
    assert errors.pop("c.tif") is None
    assert errors["a.png"] == "in/a.png: not finite"
    assert errors["b.jpg"].startswith("in/sub/b.jpg: not enough memory (")
    assert "a smaller --tile" in errors["b.jpg"]
    assert all("\n" not in error and error.startswith("in/") for error in errors.values())
    assert [path.name for path in Path("results").rglob("*.*")] == ["c.tif"]


def test_a_wrong_option_stops_the_batch(photos):
    with pytest.raises(ConfigError):
        run_jobs(plan_jobs(["in"]), Darken({8: ConfigError("sampler: unknown")}), RestoreOptions())


def test_a_failed_write_leaves_the_earlier_output(photos, monkeypatch):
    output = Path("out/a.png")
    job = Job((PhotoFiles(Path("in/a.png"), output),))
    run_jobs([job], Darken(), RestoreOptions())
    before = output.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    (outcome,) = run_jobs([job], Darken(), RestoreOptions())
    assert "No space left" in outcome.error
    assert output.read_bytes() == before
    assert list(Path("out").iterdir()) == [output]


def test_options_reach_the_restorer_and_progress_is_told(photos):
    restorer, told = Darken(), []
    conditions = Conditions(noise_std=0.1)
    options = RestoreOptions(
        steps=2, sampler="ode", seed=5, tile=64, conditions=conditions, strength=0.5
    )
    jobs = plan_jobs(["in"])
    run_jobs(jobs, restorer, options, lambda *state: told.append(state))
    assert restorer.seen == [(2, "ode", 5, 64, conditions, 0.5)] * 3
    assert told[1] == (0, jobs[0], "sample", 1, 1)
    assert [state[0] for state in told if state[2:] == ("write", 1, 1)] == [0, 1, 2]


def test_large_photo_is_refused(photos):
    (outcome,) = run_jobs(plan_jobs(["in/a.png"]), Darken(), RestoreOptions(max_pixels=79))
    assert "in/a.png" in outcome.error
    (outcome,) = run_jobs(plan_jobs(["in/a.png"]), Darken(), RestoreOptions(max_pixels=80))
    assert outcome.error is None


def test_name_that_cannot_be_written_fails_before_restoring(photos):
    Path("in/a.png").rename("odd.image")
    restorer = Darken()
    (outcome,) = run_jobs(plan_jobs(["odd.image"]), restorer, RestoreOptions())
    assert outcome.error == (
        "results/odd.image: expected a name that ends in .jpg, .jpeg, .png, .tif, .tiff, .webp, "
        ".avif, .jxl"
    )
    assert restorer.seen == []


@pytest.mark.parametrize(
    ("size", "scale", "panel"),
    [
        ((20, 30), 1, (20, 30)),
        ((50, 2000), 1, (20, 800)),
        ((20, 30), 3, (60, 90)),
        ((50, 700), 3, (57, 800)),
    ],
)
def test_comparison_shows_both_halves(photos, size, scale, panel):
    write_image("wide.png", torch.full((3, *size), 0.8))
    (job,) = plan_jobs(["wide.png"], compare=True)
    assert run_jobs([job], Darken(scale=scale), RestoreOptions())[0].error is None
    both = read_image("results/wide_compare.png").image
    assert both.shape == (3, panel[0], 2 * panel[1])
    left, right = both.chunk(2, dim=-1)
    torch.testing.assert_close(left, torch.full_like(left, 0.8), atol=1 / 255, rtol=0)
    torch.testing.assert_close(right, torch.full_like(right, 0.4), atol=1 / 255, rtol=0)


def test_comparison_of_a_gray_photo_is_gray_as_its_profile_says(photos):
    gray = torch.full((3, 8, 9), 0.5)
    write_image("gray.png", gray, Photo(gray, mode="gray", icc=b"profile of gray"))
    (job,) = plan_jobs(["gray.png"], compare=True)
    assert run_jobs([job], Darken(), RestoreOptions())[0].error is None
    both = read_image("results/gray_compare.png")
    assert (both.mode, both.icc) == ("gray", b"profile of gray")


def test_what_exists_is_left_alone_and_half_a_job_is_done_again(photos):
    skip = RestoreOptions(skip_existing=True)
    jobs = plan_jobs(["in"], compare=True)
    Path("results/sub").mkdir(parents=True)
    Path("results/a.png").write_bytes(b"mine")
    Path("results/a_compare.png").write_bytes(b"mine")
    Path("results/sub/b.jpg").write_bytes(b"without its comparison")
    restorer, told = Darken(), []
    outcomes = run_jobs(jobs, restorer, skip, lambda *state: told.append(state))
    assert [outcome.skipped for outcome in outcomes] == [True, False, False]
    assert Path("results/a.png").read_bytes() == b"mine"
    assert read_image("results/sub/b.jpg").image.shape == (3, 9, 10)
    assert told[0] == (0, jobs[0], "skip", 1, 1)
    assert not outcomes[0].seconds and not outcomes[0].sizes and outcomes[0].error is None
    assert all(outcome.skipped for outcome in run_jobs(jobs, restorer, skip))
    assert len(restorer.seen) == 2
    assert not any(outcome.skipped for outcome in run_jobs(jobs, restorer, RestoreOptions()))


def test_times_and_sizes_are_those_of_the_photo(photos):
    Path("in/cut.jpg").write_bytes(Path("in/sub/b.jpg").read_bytes()[:200])
    jobs = plan_jobs(["in/sub/b.jpg", "in/cut.jpg", "in/a.png"])
    whole, unread, failed = run_jobs(jobs, Darken({8: RefusionError("no")}), RestoreOptions())
    assert list(whole.seconds) == ["read", "restore", "write"]
    assert all(seconds > 0 for seconds in whole.seconds.values())
    assert whole.sizes == ((10, 9),)
    assert (list(unread.seconds), unread.sizes) == (["read"], ())
    assert (list(failed.seconds), failed.sizes) == (["read", "restore"], ((10, 8),))


class Dice(Darken):
    """The seed is the brightness: 0.1 per number."""

    def restore(self, lq, *, seed, callback, **_):
        self.seen.append(seed)
        assert lq.is_floating_point()
        return torch.full_like(lq, seed / 10)


def test_samples_count_on_from_the_seed_and_their_mean_is_written(photos):
    restorer, told = Dice(), []
    jobs = plan_jobs(["in"], uncertainty="maps")
    maps = [path.as_posix() for job in jobs for path in job.photos[0].written[1:]]
    assert maps == [f"maps/{n}_uncertainty.png" for n in ("a", "sub/b", "sub/c")]
    options = RestoreOptions(seed=3, samples=3)
    run_jobs(jobs[:1], restorer, options, lambda *state: told.append(state[2:]))
    assert restorer.seen == [3, 4, 5]
    assert [state for state in told if state[0] == "samples"] == [
        ("samples", k, 3) for k in (1, 2, 3)
    ]
    assert float(read_image("results/a.png").image.mean()) == pytest.approx(0.4, abs=0.003)
    # Of 0.3, 0.4, 0.5 the standard deviation is 0.1, which is white.
    assert float(read_image(maps[0]).image.min()) > 0.999


def test_maps_have_names_of_their_own(photos):
    (job,) = plan_jobs(["in/a.png"], "new/x.webp", uncertainty="maps/m.png")
    assert job.photos[0].written == (Path("new/x.webp"), Path("maps/m.png"))
    (job,) = plan_jobs(["in/a.png"], "new/x.webp", uncertainty="maps")
    assert job.photos[0].uncertainty == Path("maps/x_uncertainty.png")
    first = names(plan_jobs(["in"]))
    Path("in/maps").mkdir()
    write_image("in/maps/a_uncertainty.png", torch.rand(3, 4, 4))
    assert names(plan_jobs(["in"], uncertainty="in/maps")) == first  # not restored themselves
    for maps, words in {
        "m.png": "one file for several",
        "in/a.png": "one file for several",
    }.items():
        with pytest.raises(ConfigError, match=words):
            plan_jobs(["in"], uncertainty=maps)
    with pytest.raises(ConfigError, match=r"a 16-bit PNG, name a \.png file"):
        plan_jobs(["in/a.png"], uncertainty="m.jpg")
    with pytest.raises(ConfigError, match="would overwrite the input"):
        plan_jobs(["in/a.png"], uncertainty="in/a.png")
    write_image("in/a.jpg", torch.rand(3, 4, 4))
    with pytest.raises(ConfigError, match=r"both become .*a_uncertainty\.png"):
        plan_jobs(["in"], uncertainty="maps")


def test_a_spread_of_one_sample_is_refused_before_any_photo(photos):
    restorer = Darken()
    with pytest.raises(ConfigError, match="needs 2 samples or more, got 1; add --samples 8"):
        run_jobs(plan_jobs(["in"], uncertainty="maps"), restorer, RestoreOptions())
    assert not restorer.seen


def test_an_interrupt_leaves_whole_files_and_is_told_what_was_done(photos, monkeypatch):
    calls, done, fsync = [], [], os.fsync

    def interrupted(number):
        calls.append(number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        fsync(number)

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(plan_jobs(["in"]), Darken(), RestoreOptions(), finished=done.append)
    assert [outcome.job.photos[0].output.as_posix() for outcome in done] == ["results/a.png"]
    assert [path.name for path in Path("results").rglob("*") if path.is_file()] == ["a.png"]
    assert read_image("results/a.png").image.shape == (3, 8, 10)
