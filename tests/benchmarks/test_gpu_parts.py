"""Programs of the GPU benchmark: a crash or a hang of one does not touch the others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.parts import Part, last_lines, run_parts
from benchmarks.gpu.rows import read_rows

ROW = 'print(\'{"table": "t", "a": 1}\', flush=True)'


def python(name, code, seconds=20.0, **more):
    return Part(name, (sys.executable, "-c", code), seconds, **more)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_crashes_and_hangs_of_one_part_lose_nothing_of_the_others(tmp_path):
    begun = time.monotonic()
    outcomes = run_parts(
        [
            python("fine", f"{ROW}; print('last words')"),
            python("broken", "raise SystemExit(3)"),
            python("raising", "1 / 0"),
            python("killed", "import os; os.kill(os.getpid(), 9)"),
            python("hanging", f"{ROW}\nimport time\ntime.sleep(60)", 3.0, grace=0.5),
            Part("absent", ("/no/such/program",), 5.0),
        ],
        tmp_path,
    )
    assert time.monotonic() - begun < 15
    states = {outcome.name: outcome.state for outcome in outcomes}
    assert states.pop("hanging").startswith("stopped after ")
    assert states == {
        "fine": "passed",
        "broken": "failed with exit code 3",
        "raising": "failed with exit code 1",
        "killed": "killed by SIGKILL",
        "absent": "did not start (No such file or directory)",
    }
    assert [outcome.passed for outcome in outcomes] == [True] + [False] * 5
    found = {outcome.name: outcome for outcome in outcomes}
    assert found["fine"].tail()[-1] == "last words"
    assert found["raising"].tail()[-1] == "ZeroDivisionError: division by zero"
    assert found["absent"].tail() == []
    assert read_rows(found["hanging"].log) == [{"table": "t", "a": 1}]


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
print(subprocess.Popen([sys.executable, "-c", child]).pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["time.sleep(60)", ""])
def test_processes_that_a_part_started_end_with_it(end, tmp_path):
    """They ignore SIGTERM; without `end` the program itself ends at once."""
    part = python("stubborn", STUBBORN.format(end=end), 3.0, grace=1.0)
    (outcome,) = run_parts([part], tmp_path)
    assert outcome.passed == (not end)
    assert outcome.seconds < 4.5
    child = int(last_lines(outcome.log)[-1])
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_part_can_save_its_work_before_it_is_killed(tmp_path):
    code = f"""
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path({str(tmp_path / "saved")!r}).write_text("all")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
time.sleep(60)
"""
    (outcome,) = run_parts([python("saving", code, 6.0, grace=3.0)], tmp_path)
    assert (tmp_path / "saved").read_text() == "all"
    assert outcome.state.startswith("stopped") and outcome.seconds < 6


def test_parts_run_side_by_side_with_their_environment(tmp_path):
    code = "import os, time; time.sleep(1); print(os.environ['SHARE'])"
    parts = [python(f"p{n}", code, environment={"SHARE": str(n)}) for n in range(4)]
    begun = time.monotonic()
    outcomes = run_parts(parts, tmp_path)
    assert time.monotonic() - begun < 3.5
    assert [outcome.tail() for outcome in outcomes] == [["0"], ["1"], ["2"], ["3"]]
    assert "SHARE" not in os.environ


def test_the_end_of_a_long_log_is_shown_without_control_characters(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"x" * 200_000 + b"\n10 %\r20 %\r\n\x1b[31mred\xff\n\n")
    assert last_lines(log, 2) == ["20 %", "\\x1b[31mred\ufffd"]
    assert last_lines(tmp_path / "none") == []


def test_an_interrupt_ends_all_parts(tmp_path):
    code = f"""
import sys
from pathlib import Path
from benchmarks.gpu.parts import Part, run_parts
import benchmarks.gpu.__main__ as command, signal
signal.signal(signal.SIGTERM, command._stop)
child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
run_parts([Part("child", (sys.executable, "-c", child), 50)], Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    log, deadline = tmp_path / "child.log", time.monotonic() + 20
    while not (log.is_file() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    child = int(log.read_text())
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)
