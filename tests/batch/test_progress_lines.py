"""Progress of a batch without a terminal: lines in place of a bar."""

import sys

import pytest

from refusion.batch.plan import Job, PhotoFiles
from refusion.batch.progress import BatchBar


@pytest.fixture
def job(tmp_path):
    return Job((PhotoFiles(tmp_path / "a.png", tmp_path / "b.png"),))


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_terminal_a_line_comes_every_ten_seconds(job, monkeypatch, capsys, quiet):
    now = [0.0]
    monkeypatch.setattr("refusion.batch.progress.time.monotonic", lambda: now[0])
    with BatchBar([50, 350], quiet=quiet) as bar:
        for seconds, number in ((4, 0), (10, 0), (15, 0), (40, 1), (1000, 1)):
            now[0] = seconds
            bar.update(number, job, "write", 1, 1) if number == 0 else bar.update(1, job, "x", 1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines == []
        if quiet
        else [
            "refusion: 1/2 a.png, write: 12 % of all photos, 70 s left",
            "refusion: 2/2 a.png, x: 56 % of all photos, 31 s left",
            "refusion: 2/2 a.png, x: 56 % of all photos, 13 min left",
        ]
    )


def test_lines_that_cannot_be_written_stop_no_photo(job, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def isatty(self):
            return False

        def flush(self):
            pass

    monkeypatch.setattr("refusion.batch.progress.EVERY_S", 0.0)
    monkeypatch.setattr(sys, "stderr", Full())
    with BatchBar([1], quiet=False) as bar:
        bar.update(0, job, "write", 1, 1)
