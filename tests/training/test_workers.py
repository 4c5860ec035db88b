"""An error in a loader process is one line; no loader process outlives the training process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from refusion.devices.processes import SINGLE_PROCESS, World
from refusion.errors import ImageError, RefusionError
from refusion.training.failures import (
    OtherProcessError,
    lost_processes_explained,
    shared_failure,
)
from refusion.training.workers import SampleError, load_batches, make_sample

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}


class UnpicklableError(Exception):
    def __init__(self, first, second):
        self.first = lambda: (first, second)
        super().__init__("a text\nof two lines")


class WithoutTextError(Exception):
    def __str__(self):
        raise ValueError


class ExitInTextError(Exception):
    def __str__(self):
        sys.exit(3)


def with_causes():
    """An error whose cause has the error as its cause."""
    error, cause = ValueError("first"), ValueError("second")
    error.__cause__, cause.__cause__ = cause, error
    return error


class Samples:
    """Samples `{"lq": (1,)}`; calls `change` for sample 5."""

    def __init__(self, change):
        self.change = change

    def __getitem__(self, index):
        sample = {"lq": torch.tensor([float(index)])}
        return self.change(sample) if index == 5 else sample


def throwing(error):
    def change(sample):
        raise error

    return change


def load(change, workers):
    indices = [range(first, first + 2) for first in range(0, 12, 2)]
    how = {"title": "data.train", "workers": workers, "seed": 0}
    return load_batches(Samples(change), indices, **how)


ERRORS = [
    (ImageError("a.jpg: damaged"), r"^data\.train, sample 5: a\.jpg: damaged$"),
    (ValueError("wrong"), r"sample 5: wrong \(error ValueError in .*test_workers\.py:\d+"),
    (UnpicklableError(1, 2), r"sample 5: a text of two lines \(error UnpicklableError"),
    (WithoutTextError(), "sample 5: error WithoutTextError without a text"),
    (ExitInTextError(), "sample 5: error ExitInTextError without a text"),
    (with_causes(), r"sample 5: first \(error ValueError in .*test_workers\.py:\d+"),
    (ValueError("x" * 10**6), "sample 5: x+ ... x+"),
    (SystemExit(0), r"sample 5: 0 \(error SystemExit"),
    (GeneratorExit(), r"sample 5: .*error GeneratorExit"),
    (StopIteration(), r"sample 5: .*error StopIteration"),
    (MemoryError(), r"sample 5: not enough memory.*batch_size or patch"),
]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("error", "message"), ERRORS, ids=lambda each: type(each).__name__)
def test_any_error_is_one_line_with_the_number_of_the_sample(error, message, workers):
    start, batches = time.monotonic(), load(throwing(error), workers)
    assert [next(batches)["lq"].flatten().tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(SampleError, match=message) as caught:
        next(batches)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500
    assert not multiprocessing.active_children()
    assert time.monotonic() - start < 10


WRONG = [
    (lambda sample: None, "sample 5: expected a dict of tensors, got NoneType"),
    (lambda sample: sample | {"f": print}, "sample 5: 'f': expected a tensor, got builtin"),
    (lambda sample: {0: sample["lq"]}, "sample 5: the keys must be texts, got int"),
    (lambda sample: {"lq": torch.eye(2).to_sparse()}, "sample 5: 'lq': expected a dense tensor"),
    (lambda sample: {"lq": torch.zeros(2)}, r"samples 4 to 5: .*'lq': \(1,\).*'lq': \(2,\)"),
    (lambda sample: sample | {"a": sample["lq"]}, "samples 4 to 5: keys and sizes must be equal"),
]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_no_sample_is_one_line(change, message, workers):
    with pytest.raises(SampleError, match=message):
        list(load(change, workers))
    assert not multiprocessing.active_children()


def test_a_batch_that_does_not_fit_in_the_memory_is_not_made():
    samples = {"lq": torch.zeros(1).expand(2**40)}  # one number in memory
    message = r"sample 0: a batch of 2 needs 16384\.0 GB, but .* lower data\.batch_size or patch"
    batches = load_batches([samples] * 2, [range(2)], title="data.train", workers=0, seed=0)
    with pytest.raises(SampleError, match=message):
        list(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_with_a_gradient_is_loaded(workers):
    batches = list(load(lambda sample: {"lq": sample["lq"].requires_grad_() * 2}, workers))
    assert batches[2]["lq"].tolist() == [[4.0], [10.0]]


def test_ctrl_c_while_a_sample_is_made_stops_the_program():
    with pytest.raises(KeyboardInterrupt):
        list(load(throwing(KeyboardInterrupt()), 0))


def test_the_photo_is_named_if_the_message_does_not_name_it():
    samples = Samples(throwing(ValueError("wrong")))
    samples.photos_of = lambda index: [f"/photos/{index}.jpg"]
    with pytest.raises(SampleError, match=r"^set 'v', sample 5 \(/photos/5\.jpg\): wrong"):
        make_sample(samples, 5, "set 'v'")
    samples.change = throwing(GeneratorExit("ended"))  # neither Exception nor SystemExit
    with pytest.raises(SampleError, match=r"sample 5 \(/photos/5\.jpg\): ended \(error GeneratorE"):
        make_sample(samples, 5, "set 'v'")
    samples.change = throwing(ImageError("/photos/5.jpg: damaged"))
    with pytest.raises(SampleError, match=r"^set 'v', sample 5: /photos/5\.jpg: damaged$"):
        make_sample(samples, 5, "set 'v'")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda sample: os.kill(os.getpid(), signal.SIGKILL), "killed|exited unexpectedly"),
        (lambda sample: os._exit(5), "exited unexpectedly"),
    ],
)
def test_a_killed_worker_is_one_line(end, message):
    line = rf"^data\.workers: worker process \d+ .*({message})"
    with pytest.raises(RefusionError, match=line), lost_processes_explained(SINGLE_PROCESS):
        list(load(end, 1))
    assert not multiprocessing.active_children()


class LostWorkers:
    """Iterator of a loader whose workers end between sending and receiving a batch."""

    def __init__(self, error):
        self.error = error
        self._workers = [multiprocessing.Process() for _ in range(2)]
        for worker in self._workers:
            worker.start()

    def __iter__(self):
        return self

    def __next__(self):
        raise self.error


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError, FileNotFoundError])
def test_a_broken_connection_to_a_worker_is_one_line(error, monkeypatch):
    iterator = LostWorkers(error(104, "Connection reset by peer"))
    monkeypatch.setattr("refusion.training.workers.DataLoader", lambda *args, **how: iterator)
    line = "^data\\.workers: worker process \\d+, \\d+ exited unexpectedly; the last"
    with pytest.raises(RefusionError, match=line), lost_processes_explained(SINGLE_PROCESS):
        list(load(None, 1))


def endless(sample):
    while True:
        time.sleep(0.1)


def test_closing_ends_workers_that_do_not_answer():
    batches = load(endless, 3)
    next(batches)
    start = time.monotonic()
    batches.close()
    assert time.monotonic() - start < 5
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
def test_workers_end_with_a_killed_training_process():
    program = (
        "import multiprocessing, time; from test_workers import *; batches = load(endless, 2);"
        "next(batches); print(*(w.pid for w in multiprocessing.active_children()), flush=True);"
        "time.sleep(100)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        workers = [int(number) for number in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
    deadline = time.monotonic() + 5
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def test_a_program_ends_that_does_not_close_the_batches():
    program = (
        "import time; from test_workers import *; batches = load(endless, 2); next(batches);"
        "print(time.monotonic())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=60)
    assert time.monotonic() - float(done.stdout) < 4


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"  # ended, but not collected yet
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("rank", "error"), [(0, ValueError), (1, OtherProcessError)])
def test_one_of_two_processes_shows_the_message(monkeypatch, rank, error):
    world = World(rank, 2)
    monkeypatch.setattr(World, "any", lambda self, flag: True)
    monkeypatch.setattr(World, "gathered", lambda self, value: [True, False])
    with pytest.raises(error), shared_failure(world):
        if rank == 0:
            raise ValueError("wrong")


def test_another_process_that_ended_is_not_a_traceback():
    lost = RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer [::1]:1")
    with pytest.raises(OtherProcessError), lost_processes_explained(World(0, 2)):
        raise lost
    with pytest.raises(RuntimeError, match="gloo"), lost_processes_explained(SINGLE_PROCESS):
        raise lost
