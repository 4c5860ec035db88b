"""Dispatch, exit codes and the one-line errors of the command line."""

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from cli_cases import make

from refusion import __version__, cli
from refusion.cli.common import errors_to_exit_codes, show
from refusion.errors import ConfigError, ImageError
from refusion.weights import ABOUT, FOLDER

ENTRIES = {"restore": cli.restore_main, "train": cli.train_main, "test": cli.test_main}
SCRIPTS = {"train": "train", "test": "test", "tiled_infer": "restore"}


@pytest.fixture
def fake_commands(monkeypatch):
    """Replace every sub-command by one that records its arguments and answers 7."""
    calls = []
    for name in cli.COMMANDS:
        module = types.ModuleType(cli.MODULES.get(name, f"refusion.cli.{name}"))
        module.run = lambda argv, *task, name=name: calls.append((*task, name, argv)) or 7
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_main_and_entry_point_pass_the_arguments_on(fake_commands, monkeypatch, name):
    assert cli.main([name, "--help", "photo.jpg"]) == 7
    entry = ENTRIES.get(name, lambda *argv: cli.main([name, *(argv or [sys.argv[1:]])[0]]))
    assert entry(["-opt", "a.yml"]) == 7
    monkeypatch.setattr(sys, "argv", ["script.py", "--task", "dehaze"])
    assert entry() == 7
    monkeypatch.setattr(sys, "argv", ["refusion", name, "--task", "derain"])
    assert cli.main() == 7
    assert [arguments for _, arguments in fake_commands] == [
        ["--help", "photo.jpg"],
        ["-opt", "a.yml"],
        ["--task", "dehaze"],
        ["--task", "derain"],
    ]
    assert {called for called, _ in fake_commands} == {name}


@pytest.mark.parametrize("argv", [["restor"], ["--nonsense"], ["--nonsense", "train"]])
def test_usage_error_exits_with_2(fake_commands, capsys, argv):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("refusion: error: ") and error.endswith("see refusion --help")
    assert fake_commands == []


def test_help_names_every_command_and_version_is_the_package_version(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as exit_info:
            cli.main([flag])
        assert exit_info.value.code == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in [*cli.TASKS, *cli.COMMANDS])
    assert output.endswith(f"refusion {__version__}\n")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["dehase", "a.jpg"], "unknown command 'dehase'; did you mean 'dehaze'?"),
        (["dehaze", "a.jpg", "--task", "deshadow"], "--task: dehaze names the task"),
        (["dehaze", "--task=deshadow"], "--task: dehaze names the task"),
    ],
)
def test_a_wrong_or_doubled_command_is_explained(fake_commands, capsys, argv, text):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    assert text in capsys.readouterr().err
    assert fake_commands == []


def test_without_arguments_the_commands_are_listed(capsys):
    assert cli.main([]) == 0
    assert all(f"  {name} " in capsys.readouterr().out for name in ["dehaze"])


@pytest.mark.parametrize("task", cli.TASKS)
def test_a_task_is_a_command(fake_commands, task):
    assert cli.main([task, "a.jpg", "--quiet"]) == 7
    assert fake_commands == [(task, "restore", ["a.jpg", "--quiet"])]


@pytest.mark.parametrize(
    ("task", "own", "other"),
    [
        ("dehaze", {"--haze-map", "--distance"}, {"--aperture", "--noise-level"}),
        ("dehaze_landscape", {"--haze-map", "--distance"}, {"--aperture", "--noise-level"}),
        ("bokeh", {"--aperture", "--disparity", "--focus"}, {"--haze-map", "--noise-level"}),
        ("denoise", {"--noise-level"}, {"--aperture", "--haze-map"}),
        ("blind", set(), {"--aperture", "--haze-map", "--noise-level"}),
    ],
)
def test_the_help_of_a_task_shows_its_own_options(task, own, other, capsys):
    with pytest.raises(SystemExit):
        cli.main([task, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: refusion {task} ")
    assert f"{ABOUT[task].does[1:]}. Photos" in shown and ("haze" in shown) is ("dehaze" in task)
    options = set(re.findall(r"--[a-z-]+", shown))
    assert own <= options and options.isdisjoint({*other, "--task", "--weights"})
    with pytest.raises(SystemExit):
        cli.main([task, "--help-all"])
    assert own | other <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"app"}))
def test_every_command_has_a_version(name, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([name, "--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"refusion {__version__}\n"


def test_the_package_is_a_program():
    command = [sys.executable, "-m", "refusion", "tasks"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(f"refusion {task} PHOTO" in done.stdout for task in cli.TASKS)


@pytest.mark.parametrize("task", cli.TASKS)
def test_the_listed_results_are_those_of_the_model_cards(task):
    numbers = re.findall(r"\d+\.\d+", ABOUT[task].measured)
    card = (FOLDER / f"{task}.md").read_text("utf-8")
    assert len(numbers) == 2
    assert all(number in card for number in numbers)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["dehaze", "none.jpg"], "none.jpg: no such file; correct the path"),
        (["dehaze", "--quiet", "--", "-none.jpg"], "error: -none.jpg: no such file; correct"),
        (["dehaze", "none.jpg", "no.png"], "none.jpg: no such file, nor any other of 2 photos"),
        (["restore", "--task", "dehase", "a.png"], "did you mean 'dehaze'?"),
        (["dehaze", "a.png", "--output", "a.png"], "would overwrite the input 'a.png'"),
        (["dehaze", "a.png", "--output", "b.heic"], "results are .jpg, .jpeg, .png"),
        (["dehaze", "a.png", "--input", "a.png"], "name them once"),
        (["bokeh", "a.png"], "--aperture, --disparity: missing"),
        (["dehaze", "a.png", "--weights", "b.safetensors"], "no such weights file"),
        (["dehaze", "a.png", "--device", "cuba"], "unknown device 'cuba'; did you mean 'cuda'?"),
    ],
)
def test_wrong_usage_is_found_without_pytorch(argv, text, tmp_path):
    make(tmp_path / "a.png")
    code = (
        "import sys\nfrom refusion.cli import main\n"
        f"try: code = main({argv})\nexcept SystemExit as exit: code = exit.code\n"
        "sys.exit(70 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert text in done.stderr


@pytest.mark.parametrize("error", [ConfigError("a.yml: bad\n  key"), ImageError("a.yml: bad key")])
def test_user_error_is_one_line_and_exit_2(capsys, error):
    @errors_to_exit_codes
    def run(argv):
        raise error

    assert run([]) == 2
    assert capsys.readouterr().err == "refusion: error: a.yml: bad key\n"


@errors_to_exit_codes
def raising(error):
    raise error


def test_interrupt_is_130(capsys):
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "refusion: interrupted\n"


class UnspeakableError(Exception):
    """An exception whose text cannot be made."""

    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZeroDivisionError(), 70),
        (RecursionError("deep"), 70),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), 70),
        (UnspeakableError(), 70),
        (MemoryError(), 2),
        (OSError(36, "File name too long", "x" * 5000), 2),
        (OSError(28, "No space left on device"), 2),
        (ImageError("\x1b]0;title\x07\u202e" + "x" * 10**6), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_exception_is_one_short_line(error, code, capsys, monkeypatch):
    monkeypatch.delenv("REFUSION_DEBUG", raising=False)
    assert raising(error) == code
    line = capsys.readouterr().err
    assert line.startswith("refusion: error: ")
    assert line[:-1].isprintable()
    assert line.endswith("\n")
    assert len(line) < 1200


def test_the_traceback_is_shown_on_request(capsys, monkeypatch):
    monkeypatch.setenv("REFUSION_DEBUG", "1")
    assert raising(ZeroDivisionError("by\x1bnull")) == 70
    error = capsys.readouterr().err
    assert "Traceback (most recent call last):" in error
    assert "ZeroDivisionError: by\\x1bnull" in error
    assert raising(ImageError("a.jpg: damaged")) == 2
    assert capsys.readouterr().err == "refusion: error: a.jpg: damaged\n"


def test_output_is_safe_to_show(capsys):
    show("results/\udcff\x1b[31m.jpg", "Café")
    assert capsys.readouterr().out == "results/\\udcff\\x1b[31m.jpg\nCafé\n"


def run_python(code, **options):
    """Run Python with the package; returns exit code and stderr."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)
    return done.returncode, done.stderr


MAIN = "import sys; from refusion.cli import main; sys.exit(main({!r}))"


def test_a_broken_pytorch_is_one_line(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise OSError('libtorch_cpu.so: bad ELF header')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    code, error = run_python(MAIN.format(["info", "dehaze"]), env=environment)
    assert code == 70
    assert error.startswith("refusion: error: libtorch_cpu.so: bad ELF header (")
    assert error.count("\n") == 1


def test_the_page_without_a_library_is_one_line(tmp_path):
    (tmp_path / "yaml.py").write_text("raise ImportError('libyaml.so: no such file')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    code = "import runpy; runpy.run_module('refusion.app', run_name='__main__')"
    code, error = run_python(code, env=environment)
    assert code == 70
    assert error.startswith("refusion: error: libyaml.so: no such file (")
    assert error.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is known to work on Linux")
@pytest.mark.parametrize("megabytes", [300, 500, 700, 850])
def test_little_memory_at_the_import_of_libraries_is_one_line(megabytes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.png")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2); "
    code, error = run_python(limit + MAIN.format(["restore", "--input", "x.png"]))
    assert code in (0, 1, 2), error  # 0: there was enough; 1: too little for the photo
    if code == 2:
        assert error.startswith("refusion: error: not enough memory (0.")
        assert error.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="the shell of Windows cannot close streams")
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_a_command(tmp_path, closed):
    """And no library writes into a file that has taken the place of a stream."""
    make(tmp_path / "a.png")
    options = "restore --strength 0 --input a.png --log-file l.json --device cpu"
    command = f'"{sys.executable}" -c "{MAIN.format(options.split())}" {closed}'
    done = subprocess.run(command, shell=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "results/a.png").is_file()
    assert json.loads((tmp_path / "l.json").read_text())["summary"]["restored"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_behind_stdout_is_one_line():
    with Path("/dev/full").open("w") as full:
        code, error = run_python(MAIN.format(["init"]), stdout=full)
    assert code == 2
    assert error.startswith("refusion: error: No space left on device; ")
    assert error.count("\n") == 1


def test_the_list_of_commands_waits_for_no_slow_library():
    code = (
        "import sys; before = set(sys.modules); import refusion.cli; "
        "slow = {'torch', 'yaml', 'inspect', 'logging'} & (set(sys.modules) - before); "
        "sys.exit(', '.join(slow) or 0)"
    )
    assert run_python(code) == (0, "")


def test_guarded_keeps_result_and_name():
    @errors_to_exit_codes
    def run(argv):
        """Docstring."""
        return len(argv)

    assert run(["a", "b"]) == 2
    assert (run.__name__, run.__doc__) == ("run", "Docstring.")


def test_an_error_inside_a_command_reaches_the_guard(monkeypatch, capsys):
    module = types.ModuleType("refusion.cli.train")

    def run(argv):
        raise ConfigError("no such file")

    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert cli.main(["train"]) == 2
    assert cli.train_main([]) == 2
    assert capsys.readouterr().err == "refusion: error: no such file\n" * 2


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_help_works_from_another_folder(script, tmp_path):
    command = [sys.executable, Path(__file__).parents[2] / f"{script}.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_unknown_option_of_a_command_exits_with_2(name):
    code = "import sys; from refusion.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, name, "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
