"""The pure functions of the Lua script for darktable, in the Lua 5.4 that darktable has."""

import subprocess
from pathlib import Path

import pytest

from refusion.cli import TASKS, restore

lua54 = pytest.importorskip("lupa.lua54", reason="no Lua: pip install lupa")
SCRIPT = Path(__file__).parents[2] / "integrations" / "darktable" / "refusion.lua"
ODD_NAMES = [
    "plain.jpg",
    'it\'s "quoted".jpg',
    "-leading dash.jpg",
    "Küste & $HOME `id` 50% \\ !.jpg",
    "two\nlines.jpg",
]


@pytest.fixture(scope="module")
def lua():
    return lua54.LuaRuntime()


@pytest.fixture(scope="module")
def script(lua):
    """The table that the script returns where there is no darktable."""
    return lua.execute(SCRIPT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_sh_gets_every_argument_as_it_is(script, tmp_path, name):
    program = tmp_path / "a 'b' program"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\necho message >&2\n', encoding="utf-8")
    program.chmod(0o755)
    log = tmp_path / f"log {name}"
    command = script.command_line(
        str(program), "dehaze", 80, f"/in/{name}", f"/out/{name}", str(log), "linux"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=20, check=True)
    words = done.stdout.decode().split("\0")[:-1]
    assert words[:2] == ["dehaze", "--strength=80%"]
    assert words[-3:] == ["--output", f"/out/{name}", f"/in/{name}"]
    assert log.read_text(encoding="utf-8") == "message\n"


def test_the_command_is_one_that_refusion_knows(script):
    tasks = [task.name for task in script.TASKS.values()]
    assert len(tasks) >= 4
    assert set(tasks) <= set(TASKS)
    line = script.command_line("refusion", "dehaze", 80, "in.tif", "out.tif", "log", "macos")
    words = line.replace("'", "").split()
    assert words[:2] == ["refusion", "dehaze"]
    options = restore.build_parser().parse_args(words[2 : words.index("2>")])
    assert (options.strength, options.output, options.photos) == (0.8, "out.tif", ["in.tif"])
    assert (options.quiet, options.overwrite) == (True, "never")


def test_windows_gets_a_batch_file_with_doubled_percent_signs(script):
    line = script.command_line(
        "C:/a b/refusion.exe", "blind", 5, "C:/100% Küste.tif", "C:/out.tif", "C:/log", "windows"
    )
    first, second, rest = script.batch_file(line).split("\r\n")
    assert (first, rest) == ("@chcp 65001 > nul", "")
    assert second.startswith('@"C:/a b/refusion.exe" blind "--strength=5%%" ')
    assert second.endswith('--output "C:/out.tif" "C:/100%% Küste.tif" 2> "C:/log"')


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "/p/a.b-dehaze.tif"),
        (["/p/a.b-dehaze.tif"], "/p/a.b-dehaze-2.tif"),
        (["/p/a.b-dehaze.tif", "/p/a.b-dehaze-2.tif"], "/p/a.b-dehaze-3.tif"),
    ],
)
def test_results_get_a_free_name(script, there, expected):
    assert script.result_path("/p", "a.b.NEF", "dehaze", "linux", there.__contains__) == expected


def test_results_on_windows_lie_in_the_folder_of_the_photo(script):
    path = script.result_path("C:\\p", "a", "blind", "windows", lambda path: False)
    assert path == "C:\\p\\a-blind.tif"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("usage: x\nrefusion: error: a.tif: too large\n\n", "refusion: error: a.tif: too large"),
        ("sh: 1: refusion: not found\n", "cannot run P (sh: 1: refusion: not found); choose"),
        ("", "cannot run P (no message); choose"),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(script, message, expected):
    assert script.reason(script.last_line(message), "P").startswith(expected)


def test_the_summary_names_the_first_error(lua, script):
    assert script.summary(2, lua.table()) == "refusion: 2 restored"
    errors = lua.table("a.jpg: x", "b.jpg: y")
    assert script.summary(1, errors) == "refusion: 1 restored, 2 failed: a.jpg: x"
