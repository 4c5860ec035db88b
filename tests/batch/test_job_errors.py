"""An unexpected error, or too little memory, is the error of one photo and not of the batch."""

from pathlib import Path

import pytest
import torch

from refusion.batch.jobs import run_jobs
from refusion.batch.options import RestoreOptions
from refusion.batch.plan import plan_jobs
from refusion.images.io import write_image
from refusion.images.samples import to_float


class Failing:
    """A restorer that raises an error for photos with 8 rows."""

    views, scale, colours, device, optional = 1, 1, False, "cpu", ()

    def __init__(self, error):
        self.error = error

    @property
    def info(self):
        return self

    def restore(self, lq, **_):
        if lq.shape[-2] == 8:
            raise self.error
        return to_float(lq)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        write_image(f"in/{name}", torch.rand(3, 8 + number, 10))


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("shape"), ZeroDivisionError(), RecursionError("deep"), KeyError("x\x1b[31m")],
)
def test_an_unexpected_error_is_the_error_of_one_photo(photos, fault, monkeypatch, caplog):
    monkeypatch.delenv("REFUSION_DEBUG", raising=False)
    outcomes = run_jobs(plan_jobs(["in"]), Failing(fault), RestoreOptions())
    (error,) = (outcome.error for outcome in outcomes if outcome.error is not None)
    assert len(outcomes) == 3
    assert error.startswith("in/a.png: ")
    assert error.isprintable()
    assert type(fault).__name__ in error
    assert "REFUSION_DEBUG=1 shows the traceback" in error
    assert not caplog.records
    monkeypatch.setenv("REFUSION_DEBUG", "1")
    run_jobs(plan_jobs(["in"]), Failing(fault), RestoreOptions())
    assert "Traceback (most recent call last)" in caplog.text


def test_little_memory_halves_the_tiles_or_is_one_line(photos):
    """Errors of PyTorch, oneDNN, C++, Python and the operating system."""
    faults = [
        MemoryError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ]
    for fault in faults:
        outcomes = run_jobs(plan_jobs(["in"]), Failing(fault), RestoreOptions())
        (error,) = (outcome.error for outcome in outcomes if outcome.error is not None)
        assert error.startswith("in/a.png: not enough memory ("), fault
        assert " GB " in error


@pytest.mark.parametrize(
    "name",
    ["loop.png", "x" * 5000 + ".png", "y/" * 3000 + "z.png", "a\nb.png", "a\0.png", "\udcff"],
)
def test_an_impossible_input_or_output_is_the_error_of_one_photo(photos, name):
    """A link that points at itself, a name that is too long or that no file can have."""
    Path("loop.png").symlink_to("loop.png")
    outcomes = run_jobs(plan_jobs([name, "in/b.png"]), Failing(None), RestoreOptions())
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert outcomes[0].error.isprintable()
    assert len(outcomes[0].error) < 1100
    if name.endswith(".png") and name != "a\nb.png":
        (outcome,) = run_jobs(plan_jobs(["in/b.png"], name), Failing(None), RestoreOptions())
        assert "cannot be" in outcome.error
        assert len(outcome.error) < 1100
