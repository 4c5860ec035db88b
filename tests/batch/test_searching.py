"""A search of many folders says what it does, and Ctrl-C ends it."""

import sys

import pytest

from refusion import cli
from refusion.batch.plan import plan_jobs
from refusion.batch.searching import SearchLines
from refusion.cli import lite
from refusion.images import listing

LINE = "refusion: searching {}: 0 photos in {} folders so far; Ctrl-C ends this"


@pytest.fixture
def folders(tmp_path):
    """Four folders below each other, with one photo at the end."""
    deep = tmp_path / "1" / "2" / "3"
    deep.mkdir(parents=True)
    (deep / "a.png").touch()
    return tmp_path


def seconds_per_file(monkeypatch, step):
    """A clock that goes on by some seconds for every file and folder."""
    now = iter(range(0, 10_000, step))
    monkeypatch.setattr("refusion.batch.searching.time.monotonic", lambda: next(now))


@pytest.mark.parametrize(("step", "lines"), [(1, [2]), (5, [1, 3]), (10, [1, 2, 3, 4])])
def test_a_line_comes_after_two_seconds_and_then_every_ten(
    folders, monkeypatch, capsys, step, lines
):
    seconds_per_file(monkeypatch, step)
    plan_jobs([str(folders)], None, recursive=True, searching=SearchLines())
    shown = capsys.readouterr().err.splitlines()
    assert shown == [LINE.format(folders, count) for count in lines]


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("program", ["refusion", "refusion-lite"])
def test_ctrl_c_ends_the_search_with_one_line(folders, monkeypatch, capsys, program, quiet):
    seconds_per_file(monkeypatch, 10)

    def interrupted(entry, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "_reason", interrupted)
    main = cli.main if program == "refusion" else lite.main
    assert main(["dehaze", str(folders), *["--quiet"] * quiet]) == 130
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "refusion: interrupted"
    assert len(lines) == (0 if quiet else 4)
    ends = {True: ", --no-recursive leaves out sub-folders", False: ""}
    assert all(line.endswith(f"this{ends[program == 'refusion']}") for line in lines)


def test_lines_that_cannot_be_written_stop_no_search(folders, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    seconds_per_file(monkeypatch, 10)
    monkeypatch.setattr(sys, "stderr", Full())
    assert len(plan_jobs([str(folders)], None, recursive=True, searching=SearchLines())) == 1
