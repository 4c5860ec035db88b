"""Dispatch, exit codes and the one-line errors of the command line."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from refusion import __version__, cli
from refusion.cli.common import errors_to_exit_codes
from refusion.errors import ConfigError, ImageError

ENTRIES = {"restore": cli.restore_main, "train": cli.train_main, "test": cli.test_main}
SCRIPTS = {"train": "train", "test": "test", "tiled_infer": "restore"}


@pytest.fixture
def fake_commands(monkeypatch):
    """Replace every sub-command by one that records its arguments and answers 7."""
    calls = []
    for name in cli.COMMANDS:
        place = cli.MODULES.get(name, name)
        module = types.ModuleType(f"refusion.cli.{place}")
        module.run = lambda argv, name=name: calls.append((name, argv)) or 7
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


@pytest.mark.parametrize("argv", [[], ["restor"], ["--nonsense"], ["--nonsense", "train"]])
def test_usage_error_exits_with_2(fake_commands, capsys, argv):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    assert exit_info.value.code == 2
    assert "usage: refusion" in capsys.readouterr().err
    assert fake_commands == []


def test_help_names_every_command_and_version_is_the_package_version(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as exit_info:
            cli.main([flag])
        assert exit_info.value.code == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in cli.COMMANDS)
    assert output.endswith(f"refusion {__version__}\n")


@pytest.mark.parametrize("error", [ConfigError("a.yml: bad\n  key"), ImageError("a.yml: bad key")])
def test_user_error_is_one_line_and_exit_2(capsys, error):
    @errors_to_exit_codes
    def run(argv):
        raise error

    assert run([]) == 2
    assert capsys.readouterr().err == "refusion: error: a.yml: bad key\n"


def test_interrupt_is_130_and_a_fault_keeps_its_traceback(capsys):
    @errors_to_exit_codes
    def run(error):
        raise error

    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "refusion: interrupted\n"
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())


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
    path = Path(__file__).parents[2] / f"{script}.py"
    command = [sys.executable, path, "--help"]
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
