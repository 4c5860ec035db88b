"""The time of a run by minutes begins with the process, if the process is there for the run."""

import os
import subprocess
import sys
import time

import pytest

from refusion.cli import process_age as module
from refusion.cli.process_age import age_of, process_age

TICKS = os.sysconf("SC_CLK_TCK")


def status(tmp_path, started_s, name="python"):
    """File of a process as Linux writes it: number, name, state, and 49 numbers."""
    fields = ["0"] * 49
    fields[18] = str(started_s * TICKS)
    path = tmp_path / "stat"
    path.write_text(f"7 ({name}) S {' '.join(fields)}\n")
    return str(path)


@pytest.mark.parametrize("name", ["python", "a) 1 2 (b", "x y"])
def test_the_age_is_the_time_since_the_start(tmp_path, name):
    assert age_of(status(tmp_path, 100, name), now=lambda: 107.5) == 7.5


def test_a_start_in_the_future_is_no_age(tmp_path):
    assert age_of(status(tmp_path, 100), now=lambda: 99) == 0


def test_the_real_age_of_a_process():
    code = (
        "import sys, time; time.sleep(0.5); from refusion.cli.process_age import process_age; "
        "print(process_age(['-opt', 'x.yml']), process_age(['y.yml']), process_age([]))"
    )
    begun = time.monotonic()
    command = [sys.executable, "-c", code, "train", "-opt", "x.yml"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    own, other, empty = map(float, out.split())
    assert 0.5 <= own <= time.monotonic() - begun + 2 / TICKS
    assert other == empty == 0


def test_a_system_that_does_not_say_has_no_age(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["refusion", "train", "-opt", "x.yml"])
    assert process_age(["-opt", "x.yml"]) > 0
    for content in (None, "", "7 (python) S 1 2"):
        path = tmp_path / f"stat{content}"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(module, "STATUS", str(path))
        assert process_age(["-opt", "x.yml"]) == 0


def test_the_training_begins_with_the_process(monkeypatch):
    """The budget is given the start of the process, not that of the command."""
    from refusion.cli import train

    begins = []
    monkeypatch.setattr(train, "process_age", lambda argv: 1000.0)
    monkeypatch.setattr(train, "_load", lambda options: None)
    monkeypatch.setattr(train, "_train", lambda *parts: begins.append(parts[-1]) or 0)
    assert train.run(["-opt", "x.yml", "--device", "cpu"]) == 0
    assert begins[0] == pytest.approx(time.monotonic() - 1000, abs=60)


def test_a_command_ends_without_a_search_for_cycles():
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); "
        "from refusion.cli import main; print(main(['info', 'missing.safetensors']))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "2\nTrue\n"
