"""How the plug-in for GIMP runs the command: arguments, messages, progress and cancelling."""

import doctest
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "gimp" / "refusion"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


restoration = load("restoration")
Settings = restoration.Settings


@pytest.fixture
def program(tmp_path):
    """Writes an executable script with the given Python lines and returns its path."""

    def write(*lines):
        path = tmp_path / "odd 'name' refusion"
        path.write_text("\n".join([f"#!{sys.executable}", "import os, sys, time", *lines]))
        path.chmod(0o755)
        return str(path)

    return write


def test_examples_of_the_docstrings():
    assert doctest.testmod(restoration) == (0, 3)


def test_tasks_and_the_command_line_are_those_of_refusion(program):
    from refusion.cli import TASKS, restore

    assert set(restoration.TASKS) <= set(TASKS)
    command = Settings("denoise", 60.0, program()).command_line(Path("-a.tif"), Path("b.tif"))
    assert command[1] == "denoise"
    options = restore.build_parser().parse_args([*command[2:-1], "a.tif"])
    assert (options.strength, options.output, options.photos) == (0.6, "b.tif", ["a.tif"])
    assert command[-1] == "-a.tif"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(program="/no/refusion"), "no program '/no/refusion'; enter the path"),
        (Settings(program=""), "no program ''"),
        (Settings("dehaze; rm", program=sys.executable), "expected a task of dehaze, "),
        (Settings(strength=100.5, program=sys.executable), "expected a strength of 0 to 100"),
        (Settings(strength=float("nan"), program=sys.executable), "expected a strength"),
    ],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(restoration.RestorationError, match=message) as caught:
        settings.command_line(Path("a"), Path("b"))
    assert "\n" not in str(caught.value)


def test_the_program_is_found_by_name_in_path_and_in_the_home_folder(program, monkeypatch):
    path = Path(program())
    monkeypatch.setenv("PATH", str(path.parent))
    monkeypatch.setenv("HOME", str(path.parent))
    for name in (path.name, f"~/{path.name}", f" {path} "):
        assert Settings(program=name).command_line(Path("a"), Path("b"))[0] == str(path)


def test_the_command_runs_and_its_progress_is_shown(program, tmp_path, monkeypatch):
    path = program(
        "assert not [key for key in os.environ if key.startswith('PYTHON')]",
        "print('refusion: 1/1 a.tif, decode: 40 % of all photos, 9 s left', flush=True)",
        "time.sleep(0.5)",
        "open(sys.argv[4], 'w').write(sys.argv[5])",
    )
    monkeypatch.setenv("PYTHONHOME", "/of/the/editor")
    monkeypatch.setattr(restoration.sys, "executable", without_python_variables(tmp_path))
    source, target, shares = tmp_path / "in.tif", tmp_path / "out.tif", []
    restoration.restore_file(
        Settings(program=path).command_line(source, target), tmp_path, shares.append
    )
    assert target.read_text() == str(source)
    assert shares[-1] == 0.4
    assert set(shares) <= {None, 0.4}


def without_python_variables(folder):
    """A Python for the second process of the test, as GIMP's own one that PYTHONHOME is for."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONHOME= exec "{sys.executable}" -E "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sys.exit('usage: x\\nrefusion: error: a.tif: too large\\n')"], "too large"),
        (["sys.exit(3)"], "ended with code 3 and no message"),
    ],
)
def test_errors_of_the_command_are_its_last_line(program, tmp_path, lines, message):
    command = Settings(program=program(*lines)).command_line(Path("a"), Path("b"))
    with pytest.raises(restoration.RestorationError, match=message) as caught:
        restoration.restore_file(command, tmp_path, lambda share: None)
    assert "usage" not in str(caught.value)


def test_a_program_that_cannot_start_is_an_error_in_one_line(tmp_path):
    path = tmp_path / "refusion"
    path.write_bytes(b"\x00\x01 no program")
    path.chmod(0o755)
    with pytest.raises(restoration.RestorationError, match=r"cannot start .*refusion: "):
        restoration.restore_file([str(path)], tmp_path, lambda share: None)


def gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_after_a_killed_plug_in_the_command_ends_and_the_folder_goes(program, tmp_path):
    folder = tmp_path / "refusion-folder"
    folder.mkdir()
    pid_file = tmp_path / "pid"
    path = program(f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))", "time.sleep(60)")
    code = "import sys, pathlib, restoration; "
    code += "restoration.restore_file([sys.argv[1]], pathlib.Path(sys.argv[2]), lambda s: None)"
    plug_in = subprocess.Popen([sys.executable, "-c", code, path, str(folder)], cwd=FOLDER)
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    plug_in.kill()  # as GIMP does it after Cancel
    plug_in.wait()
    wait_for(lambda: gone(int(pid_file.read_text())) and not folder.exists())


def test_an_exception_in_the_plug_in_ends_the_command(program, tmp_path):
    pid_file = tmp_path / "pid"
    path = program(f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))", "time.sleep(60)")

    def show(share):
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        restoration.restore_file([path], folder, show)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert threading.active_count() < 50


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
