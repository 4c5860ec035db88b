"""On a GPU the next photo is decoded while a photo is restored; the results are the same."""

import threading

import pytest
import torch
from test_jobs import Darken

from refusion.batch import reading
from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import plan_jobs
from refusion.images.io import MAX_PIXELS, read_image, write_image

WAIT = 5.0  # seconds


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in "abcd":
        write_image(f"in/{name}.png", torch.rand(3, 8, 10))
    return plan_jobs(["in"], "out")


@pytest.fixture
def read(monkeypatch):
    """Stem of a photo -> event that is set when it has been read."""
    events, original = {name: threading.Event() for name in "abcd"}, reading.read_photos
    events["threads"] = {}

    def noted(job, *limits):
        photos = original(job, *limits)
        stem = job.photos[0].input.stem
        events["threads"][stem] = threading.current_thread()
        events[stem].set()
        return photos

    monkeypatch.setattr(reading, "read_photos", noted)
    return events


class Watching(Darken):
    """Notes for each photo whether the next one is read before its restoration ends."""

    def restore(self, lq, **options):
        number = len(self.seen)
        following = "abcd"[number + 1 : number + 2]
        if following and self.read is not None:
            self.ahead.append(self.read[following].wait(self.wait))
        return super().restore(lq, **options)


def watching(read, device, wait):
    restorer = Watching(device=device)
    restorer.read, restorer.ahead, restorer.wait = read, [], wait
    return restorer


def test_the_next_photo_is_read_during_a_restoration(jobs, read):
    restorer = watching(read, "cuda", WAIT)
    outcomes = run_jobs(jobs, restorer, RestoreOptions())
    assert restorer.ahead == [True, True, True]
    assert not [outcome.error for outcome in outcomes if outcome.error]
    assert all(read["threads"][name] is not threading.main_thread() for name in "bcd")
    for name in "abcd":
        lq, result = (read_image(f"{folder}/{name}.png").image for folder in ("in", "out"))
        assert float((result - 0.5 * lq).abs().max()) <= 1 / 255


@pytest.mark.parametrize(
    ("device", "limit"), [("cpu", None), ("cuda", 2**33)], ids=["on a CPU", "with a limit"]
)
def test_one_photo_at_a_time_elsewhere(device, limit, jobs, read):
    restorer = watching(read, device, 0.05)
    run_jobs(jobs, restorer, RestoreOptions(max_memory=limit))
    assert restorer.ahead == [False, False, False]
    assert set(read["threads"].values()) == {threading.main_thread()}


def test_a_damaged_photo_is_an_error_of_its_own_job(jobs, read):
    jobs[1].photos[0].input.write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    outcomes = run_jobs(jobs, Darken(device="cuda"), RestoreOptions())
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True]
    assert "b.png" in outcomes[1].error


def test_photos_that_are_skipped_are_not_read(jobs, read):
    jobs[1].photos[0].output.parent.mkdir()
    write_image("out/b.png", torch.rand(3, 8, 10))
    outcomes = run_jobs(jobs, Darken(device="cuda"), RestoreOptions(skip_existing=True))
    assert [outcome.skipped for outcome in outcomes] == [False, True, False, False]
    assert sorted(read["threads"]) == ["a", "c", "d"]


def test_a_job_that_reads_nothing_does_not_give_its_photo_to_the_next(jobs):
    """A job can fail before it reads, for example without the other view of a stereo pair."""
    limits = {"max_pixels": MAX_PIXELS, "max_memory": None, "skip_existing": False}
    with reading.PhotoReader(jobs, Darken(device="cuda"), **limits) as reader:
        reader.photos(0)
        (photo,) = reader.photos(2)
    assert torch.equal(photo.samples, read_image("in/c.png").samples)


def test_an_interrupt_ends_the_thread(jobs, read):
    restorer = Darken(device="cuda", faults={8: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, restorer, RestoreOptions())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]
