"""The launcher `refusion-edit` and the command line for digiKam, in a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "integrations" / "external-editor"
PAGE = ROOT / "docs" / "editors.md"
ODD_NAMES = ["plain.tif", "-dash.tif", 'it\'s "odd" $HOME 50% Küste.tif', "two\nlines.jpg", "none"]
COPY = """import sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(arguments, file=log)
if "--fail" in {mode!r}:
    sys.exit("usage: refusion\\nrefusion: error: a.tif: too large")
target, source = arguments[arguments.index("--output") + 1], arguments[-1]
open(target, "xb").write(open(source, "rb").read() + b" restored")
"""
pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")


@pytest.fixture
def edit(tmp_path):
    """Runs the launcher under a name, in a folder, with a program that copies the photo."""

    def run(*arguments, name="refusion-edit", folder=tmp_path, mode=""):
        program, bin_folder = tmp_path / "the program" / "refusion", tmp_path / "bin"
        program.parent.mkdir(exist_ok=True)
        bin_folder.mkdir(exist_ok=True)
        text = COPY.format(log=str(tmp_path / "log"), mode=mode)
        program.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
        program.chmod(0o755)
        launcher = bin_folder / name
        if not launcher.exists():
            launcher.symlink_to(FOLDER / "refusion-edit")
        return subprocess.run(
            [str(launcher), *arguments],
            cwd=folder,
            env=os.environ | {"REFUSION": str(program)},
            capture_output=True,
            text=True,
            timeout=20,
        )

    return run


def result_name(name, ending="-dehaze"):
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}{ending}.{suffix}" if dot else f"{name}{ending}"


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_the_result_lies_beside_the_photo(edit, tmp_path, name, kind):
    folder = tmp_path / "my.photos & more"
    folder.mkdir()
    (folder / name).write_bytes(b"photo")
    done = edit(str(folder / name) if kind == "absolute" else name, folder=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / result_name(name)).read_bytes() == b"photo restored"
    assert (folder / name).read_bytes() == b"photo"
    assert len(list(folder.iterdir())) == 2
    assert done.stderr == f"saved {result_name(name)}\n"


def test_a_result_that_exists_is_kept(edit, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"photo")
    for ending in ("-dehaze", "-dehaze-2", "-dehaze-3"):
        assert edit("a.tif").stderr == f"saved a{ending}.tif\n"


@pytest.mark.parametrize("task", ["dehaze", "deshadow", "denoise", "blind"])
def test_the_name_of_the_launcher_is_the_task(edit, tmp_path, task):
    from refusion.cli import TASKS, restore

    assert task in TASKS
    (tmp_path / "a.tif").write_bytes(b"photo")
    assert edit("a.tif", name=f"refusion-{task}").stderr == f"saved a-{task}.tif\n"
    first, *options = eval((tmp_path / "log").read_text())
    assert first == task
    parsed = restore.build_parser().parse_args(options)
    assert (parsed.output, parsed.photos) == (f"./a-{task}.tif", ["./a.tif"])


def test_errors_are_the_last_line_of_the_program(edit):
    done = edit("a.tif", mode="--fail")
    assert (done.returncode, done.stderr) == (1, "refusion: error: a.tif: too large\n")


@pytest.mark.parametrize("arguments", [[], ["a.tif", "b.tif"]])
def test_one_photo_is_expected(edit, arguments):
    done = edit(*arguments)
    assert done.returncode == 2
    assert f"expected one photo, got {len(arguments)} arguments" in done.stderr


def test_launcher_for_windows_has_its_line_ends_and_no_path_that_ends_in_a_quote():
    content = (FOLDER / "refusion-edit.cmd").read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") > 5
    assert b'"%~dp1."' in content  # a backslash before the quote would quote the quote


def digikam_line():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if "$INPUT" in line and line.startswith("refusion ")]
    return line


@pytest.mark.parametrize("name", ["plain.jpg", "with 'space' & more.jpg", "Küste 50%.jpg"])
def test_the_line_for_digikam_gets_quoted_paths(tmp_path, name):
    """DigiKam replaces $INPUT and $OUTPUT by paths in double quotes and starts /bin/sh -c."""
    program = tmp_path / "bin" / "refusion"
    program.parent.mkdir()
    text = COPY.format(log=str(tmp_path / "log"), mode="")
    program.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    program.chmod(0o755)
    source, target = tmp_path / name, tmp_path / "out" / name
    target.parent.mkdir()
    source.write_bytes(b"photo")
    line = digikam_line().replace("$INPUT", f'"{source}"').replace("$OUTPUT", f'"{target}"')
    path = f"{program.parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", line], env=os.environ | {"PATH": path}, check=True, timeout=20)
    assert target.read_bytes() == b"photo restored"
