"""The pure functions of the Lua script for darktable, in a plain Lua interpreter."""

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "integrations" / "darktable"
LUA = next(filter(None, map(shutil.which, ["lua5.4", "lua5.3", "lua"])), None)
NEEDS_LUA = pytest.mark.skipif(LUA is None, reason="no Lua interpreter")
ODD_NAMES = [
    "plain.jpg",
    'it\'s "quoted".jpg',
    "-leading dash.jpg",
    "Küste & $HOME `id` 50% \\ !.jpg",
    "two\nlines.jpg",
]


def run_lua(code, *arguments):
    """What a piece of Lua writes; `M` is the script, `arg` holds the arguments."""
    head = f'package.path = "{FOLDER}/?.lua"; local M = require "refusion"; '
    done = subprocess.run(
        [LUA, "-", *arguments],
        input=(head + code).encode(),
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@NEEDS_LUA
@pytest.mark.parametrize("name", ODD_NAMES)
def test_sh_gets_every_argument_as_it_is(tmp_path, name):
    program = tmp_path / "a 'b' program"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\necho message >&2\n', encoding="utf-8")
    program.chmod(0o755)
    log = tmp_path / f"log {name}"
    code = (
        'local a = {...}; io.write(M.command_line(a[1], "dehaze", 80, a[2], a[3], a[4], "linux"))'
    )
    command = run_lua(code, str(program), f"/in/{name}", f"/out/{name}", str(log))
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=20, check=True)
    words = done.stdout.decode().split("\0")[:-1]
    assert words[:2] == ["dehaze", "--strength=80%"]
    assert words[-3:] == ["--output", f"/out/{name}", f"/in/{name}"]
    assert log.read_text(encoding="utf-8") == "message\n"


@NEEDS_LUA
def test_the_command_is_one_that_refusion_knows():
    from refusion.cli import TASKS, restore

    code = 'for _, t in ipairs(M.TASKS) do print(t.name) end io.write(M.command_line("refusion", '
    code += '"dehaze", 80, "in.tif", "out.tif", "log", "linux"))'
    *tasks, command = run_lua(code).splitlines()
    assert tasks
    assert set(tasks) <= set(TASKS)
    words = command.replace("'", "").split()
    assert words[:2] == ["refusion", "dehaze"]
    options = restore.build_parser().parse_args(words[2 : words.index("2>")])
    assert (options.strength, options.output, options.photos) == (0.8, "out.tif", ["in.tif"])


@NEEDS_LUA
def test_windows_gets_a_batch_file_with_doubled_percent_signs():
    code = 'io.write(M.batch_file(M.command_line("C:/a b/refusion.exe", "blind", 5, '
    code += '"C:/100% Küste.tif", "C:/out.tif", "C:/log", "windows")))'
    first, second, rest = run_lua(code).split("\r\n")
    assert (first, rest) == ("@chcp 65001 > nul", "")
    assert second.startswith('@"C:/a b/refusion.exe" blind "--strength=5%%" ')
    assert second.endswith('--output "C:/out.tif" "C:/100%% Küste.tif" 2> "C:/log"')


@NEEDS_LUA
@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("", "/p/a.b-dehaze.tif"),
        ("/p/a.b-dehaze.tif", "/p/a.b-dehaze-2.tif"),
        ("/p/a.b-dehaze.tif /p/a.b-dehaze-2.tif", "/p/a.b-dehaze-3.tif"),
    ],
)
def test_results_get_a_free_name(there, expected):
    code = 'local a = {...}; io.write(M.result_path("/p", "a.b.NEF", "dehaze", "linux", '
    code += 'function(path) return (a[1] .. " "):find(path .. " ", 1, true) end))'
    assert run_lua(code, there) == expected


@NEEDS_LUA
def test_results_on_windows_lie_in_the_folder_of_the_photo():
    code = r"""io.write(M.result_path("C:\\p", "a", "blind", "windows", function() end))"""
    assert run_lua(code) == r"C:\p\a-blind.tif"


@NEEDS_LUA
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("usage: x\nrefusion: error: a.tif: too large\n\n", "refusion: error: a.tif: too large"),
        ("sh: 1: refusion: not found\n", "cannot run P (sh: 1: refusion: not found); choose"),
        ("", "cannot run P (no message); choose"),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(message, expected):
    code = 'local a = {...}; io.write(M.reason(M.last_line(a[1]), "P"))'
    assert run_lua(code, message).startswith(expected)


@NEEDS_LUA
def test_the_summary_names_the_first_error():
    assert run_lua("io.write(M.summary(2, {}))") == "refusion: 2 restored"
    code = 'io.write(M.summary(1, {"a.jpg: x", "b.jpg: y"}))'
    assert run_lua(code) == "refusion: 1 restored, 2 failed: a.jpg: x"
