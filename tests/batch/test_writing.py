"""On a GPU results are written while the next photo is restored; the files are the same."""

import signal
import threading
import time
import warnings

import pytest
import torch
from test_jobs import Darken

from refusion.batch import writing
from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import plan_jobs
from refusion.errors import ConfigError, ImageError
from refusion.images import io
from refusion.images.decoder_warnings import quiet_decoders
from refusion.images.io import write_image

WAIT = 5.0  # seconds
NAMES = "abcd"


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(NAMES):
        write_image(f"in/{name}.png", torch.rand(3, 8 + number, 10))
    return plan_jobs(["in"], "out")


class Writing:
    """A `write_image` that waits for `go` of a photo, and notes threads and how many run."""

    def __init__(self):
        self.go = {name: threading.Event() for name in NAMES}
        self.threads, self.events, self.faults = {}, [], {}

    def __call__(self, path, image, like=None):
        self.threads[path.stem] = threading.current_thread()
        self.events.append(("begin", path.stem))
        assert self.go[path.stem].wait(WAIT)
        if path.stem in self.faults:
            raise self.faults[path.stem]
        write_image(path, image, like)
        self.events.append(("end", path.stem))


@pytest.fixture
def slow(monkeypatch):
    written = Writing()
    monkeypatch.setattr(writing, "write_image", written)
    return written


class Releasing(Darken):
    """Lets a photo be written only after the restoration of the next one has begun."""

    def restore(self, lq, **options):
        number = len(self.seen)
        self.slow.events.append(("restore", NAMES[number]))
        if number:
            self.slow.go[NAMES[number - 1]].set()
        if number == len(NAMES) - 1:
            self.slow.go[NAMES[number]].set()
        return super().restore(lq, **options)


def releasing(slow, device="cuda", **settings):
    restorer = Releasing(device=device, **settings)
    restorer.slow = slow
    return restorer


def test_results_are_written_during_the_next_restoration(jobs, slow):
    finished = []
    outcomes = run_jobs(jobs, releasing(slow), RestoreOptions(), finished=finished.append)
    assert [outcome.error for outcome in outcomes] == [None] * 4 and finished == outcomes
    assert [outcome.job for outcome in outcomes] == jobs
    assert all(outcome.seconds.keys() == {"read", "restore", "write"} for outcome in outcomes)
    assert all(slow.threads[name] is not threading.main_thread() for name in NAMES)
    # One result is being written and one waits; the third restoration begins after the first write.
    assert slow.events.index(("end", "a")) < slow.events.index(("begin", "b"))
    assert slow.events.index(("end", "a")) < slow.events.index(("restore", "c"))


@pytest.mark.parametrize(
    ("device", "limit"), [("cpu", None), ("cuda", 2**33)], ids=["on a CPU", "with a limit"]
)
def test_one_result_at_a_time_elsewhere(jobs, slow, device, limit):
    for event in slow.go.values():
        event.set()
    run_jobs(jobs, releasing(slow, device), RestoreOptions(max_memory=limit))
    assert set(slow.threads.values()) == {threading.main_thread()}
    assert slow.events == [(what, name) for name in NAMES for what in ("restore", "begin", "end")]


def test_the_files_are_the_same_bytes(jobs, tmp_path):
    found = []
    for device in ("cpu", "cuda"):
        planned = plan_jobs(["in"], device, compare=True)
        run_jobs(planned, Darken(device=device), RestoreOptions())
        files = sorted((tmp_path / device).iterdir())
        found.append({file.name: file.read_bytes() for file in files})
    assert found[0] == found[1] and len(found[0]) == 8


def test_an_error_of_a_writing_belongs_to_its_photo(jobs, slow):
    slow.faults = {"b": ImageError("out/b.png: cannot be written (no space)"), "d": OSError("x")}
    finished = []
    outcomes = run_jobs(
        jobs, releasing(slow, faults={10: ImageError("in/c.png: too dark")}),
        RestoreOptions(), finished=finished.append,
    )  # fmt: skip
    errors = [outcome.error for outcome in outcomes]
    assert errors[:3] == [None, "out/b.png: cannot be written (no space)", "in/c.png: too dark"]
    assert errors[3].startswith("in/d.png: x")
    assert finished == outcomes and "write" not in outcomes[2].seconds


def test_skipped_photos_keep_their_place(jobs, slow):
    (jobs[1].photos[0].output.parent).mkdir()
    write_image(jobs[1].photos[0].output, torch.rand(3, 8, 10))
    for event in slow.go.values():
        event.set()
    finished = []
    options = RestoreOptions(skip_existing=True)
    run_jobs(jobs, Darken(device="cuda"), options, finished=finished.append)
    assert [outcome.job for outcome in finished] == jobs
    assert [outcome.skipped for outcome in finished] == [False, True, False, False]


def test_a_wrong_option_found_while_writing_ends_the_batch(jobs, slow):
    slow.faults = {"a": ConfigError("wrong")}
    with pytest.raises(ConfigError, match="wrong"):
        run_jobs(jobs, releasing(slow), RestoreOptions())
    assert not (jobs[1].photos[0].output).exists()


def test_an_interrupt_completes_what_is_being_written(jobs, slow):
    finished = []
    restorer = releasing(slow, faults={10: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, restorer, RestoreOptions(), finished=finished.append)
    assert [outcome.job for outcome in finished] == jobs[:2]
    assert all(outcome.job.is_done for outcome in finished)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("write")]


@pytest.fixture
def interrupts():
    """SIGINT raises a KeyboardInterrupt; a process that runs in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_while_waiting_keeps_the_outcome(jobs, monkeypatch):
    finished, restorer = [], Darken(device="cuda")

    def interrupting(path, image, like=None):
        while len(restorer.seen) < 2:
            time.sleep(0.01)
        time.sleep(0.1)  # now the main thread waits for the end of this
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        write_image(path, image, like)

    monkeypatch.setattr(writing, "write_image", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, restorer, RestoreOptions(), finished=finished.append)
    assert [outcome.job for outcome in finished] == jobs[:1]
    assert jobs[0].is_done and not jobs[1].is_done


def test_the_bar_goes_forward_only(jobs, slow):
    reports = []
    run_jobs(
        jobs, releasing(slow), RestoreOptions(),
        lambda number, job, *report: reports.append((number, *report)),
    )  # fmt: skip
    assert [number for number, *_ in reports] == sorted(number for number, *_ in reports)
    assert [report for report in reports if report[1] == "write"] == [
        (number, "write", done, 1) for number in range(4) for done in (0, 1)
    ]


def test_a_thread_leaves_the_filters_of_warnings_as_they_are(jobs, monkeypatch):
    """Contexts of two threads that overlap would leave the filter of the thread behind."""
    decode = io._decode

    def warning(*arguments):
        warnings.warn_explicit("damaged", UserWarning, "f.py", 1, module="PIL.Image")
        time.sleep(0.02)
        return decode(*arguments)

    monkeypatch.setattr(io, "_decode", warning)

    class Overlapping(Darken):
        def restore(self, lq, **options):
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "ours")
                time.sleep(0.03)
                with pytest.raises(UserWarning, match="ours"):
                    warnings.warn("ours", UserWarning, stacklevel=1)
            return super().restore(lq, **options)

    before = list(warnings.filters)
    outcomes = run_jobs(jobs, Overlapping(device="cuda"), RestoreOptions())
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert warnings.filters == before


def test_only_the_warnings_of_decoders_are_hidden():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with quiet_decoders():
            for module in ("PIL.PngImagePlugin", "tifffile", "numpy", "refusion.images.png_read"):
                warnings.warn_explicit("damaged", UserWarning, "f.py", 1, module=module)
            for module in ("torch", "PILOT", "refusion.nets"):
                warnings.warn_explicit("other", UserWarning, "f.py", 1, module=module)
    assert [str(each.message) for each in shown] == ["other"] * 3


def test_another_thread_does_not_change_the_filters():
    found = []

    def look():
        with quiet_decoders():
            found.append(list(warnings.filters))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [list(warnings.filters)]


@pytest.mark.parametrize(
    ("gain", "strength", "unchanged"), [(1.0, 1.0, True), (0.5, 1.0, False), (1.0, 0.0, False)]
)
def test_a_result_that_is_the_photo_itself_is_reported(gain, strength, unchanged, jobs):
    class Scaled(Darken):
        def restore(self, lq, **options):
            return (lq.float() * gain).to(lq.dtype)

    outcomes = run_jobs(jobs, Scaled(), RestoreOptions(strength=strength))
    assert [outcome.unchanged for outcome in outcomes] == [unchanged] * len(NAMES)
