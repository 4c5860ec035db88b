"""Messages for arguments that a command does not know."""

import argparse
import re

import pytest
from PIL import Image

from refusion import cli
from refusion.cli.option_hints import _ELSEWHERE, option_hint


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["dehaze", "--strenght", "2", "a.jpg"], "unknown option '--strenght'; did you mean '--st"),
        (["dehaze", "--strenght=2", "a.jpg"], "unknown option '--strenght'; did you mean '--st"),
        (["restore", "a.jpg", "-o", "x"], "unknown option '-o'; did you mean '--output'?"),
        (["restore", "-i", "a.jpg"], "unknown option '-i'; did you mean '--input'?"),
        (["restore", "--model=x"], "'--model'; did you mean '--weights' or '--task'?"),
        (["dehaze", "--model=x"], "'--model'; did you mean '--weights'?; see"),
        (["dehaze", "--tas", "deshadow"], "unknown option '--tas'; see refusion dehaze"),
        (["dehaze", "--masc", "a.png"], "unknown option '--masc'; see refusion dehaze"),
        (["denoise", "--masc", "a.png"], "unknown option '--masc'; did you mean '--mask'?"),
        (["dehaze", "--method", "ddrm"], "invalid choice: 'ddrm' (choose from "),
        (["restore", "--GPU"], "unknown option '--GPU'; did you mean '--device'?"),
        (["restore", "a.jpg", "--threads", "2"], "unknown option '--threads'; see refusion res"),
        (["restore", "a.jpg", "-z"], "unknown option '-z'; see refusion restore --help"),
        (["restore", "a.jpg", "--noise_level", "5"], "did you mean '--noise-level'?"),
        (["train", "--config", "a.yml"], "unknown option '--config'; did you mean '--opt'?"),
        (["train", "-opt", "a.yml", "--minutes", "x"], "--minutes: expected a number, got 'x'"),
        (["train", "-opt", "a.yml", "--minutes=-1"], "--minutes: expected a number above 0, got"),
        (["info", "a", "image"], "unknown argument 'image'; see refusion info --help"),
        (["info", "a", "--zzzz"], "unknown option '--zzzz'; see refusion info --help"),
        (["info", "a", "b"], "unknown argument 'b'"),
        (["info", "--zzzz"], "unknown option '--zzzz'; see refusion info --help"),
        (["import", "--nett", "a.pth"], "unknown option '--nett'; did you mean '--net'?"),
        (["export", "--taks", "dehaze"], "unknown option '--taks'; did you mean '--task'?"),
        (["check-submission", "--trck", "x"], "unknown option '--trck'; did you mean '--track'?"),
        (["train", "--optt=a.yml"], "unknown option '--optt'; did you mean '--opt'?"),
        (["train", "a.yml"], "the following arguments are required: -opt/--opt"),
        (["average", "--zzzz", "a"], "unknown option '--zzzz'"),
        (["--versoin"], "unknown option '--versoin'; did you mean '--version'?"),
        (["train", "-opt", "a.yml", "\x1b[31m"], "unknown argument '\\x1b[31m'"),
    ],
)
def test_what_a_command_does_not_know_is_named_in_one_line(argv, error, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(argv)
    shown = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert error in shown and shown.count("\n") == 1


def test_a_task_suggests_no_method_that_it_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    assert cli.main(["dehaze", "a.png", "--mask", "m.png"]) == 2
    text = "--mask: only --method ddrm uses it, which does not restore 'dehaze'; leave it out"
    assert text in capsys.readouterr().err
    assert cli.main(["denoise", "a.png", "--mask", "m.png"]) == 2
    assert capsys.readouterr().err.endswith("--mask: only --method ddrm uses it\n")


def test_a_photo_may_be_named_like_the_option_of_the_task(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["dehaze", "--", "--task"]) == 2
    assert "--task: no such file" in capsys.readouterr().err


def test_every_hint_is_an_option_that_the_command_accepts(capsys):
    words = {f"--{word}" if len(word) > 1 else f"-{word}" for words in _ELSEWHERE for word in words}
    for command in [*cli.TASKS, *cli.COMMANDS]:
        module = cli.import_command(command)
        parser = module.build_parser(*[command] * (command in cli.TASKS))
        for word in words - set(parser._option_string_actions):
            hint = option_hint(word, parser._actions)
            for option in re.findall(r"'(-[a-z-]+)'", hint):
                assert option in parser._option_string_actions, (command, word)
                assert parser._option_string_actions[option].help != argparse.SUPPRESS


@pytest.mark.parametrize("task", cli.TASKS)
def test_the_long_help_of_a_task_has_the_methods_that_restore_it(task, capsys):
    with pytest.raises(SystemExit):
        cli.main([task, "--help-all"])
    shown = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    of_methods = {
        "denoise": {"--method", "--mask"},
        "blind": {"--method", "--lora"},
        "bokeh": {"--method"},
    }
    assert shown & {"--task", "--method", "--mask", "--lora"} == of_methods.get(task, set())


def test_a_file_with_a_leading_dash_is_named_with_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("-o=x.png")
    with pytest.raises(SystemExit):
        cli.main(["denoise", "-o=x.png"])
    assert capsys.readouterr().err == (
        "refusion denoise: error: unknown option '-o'; if you mean the file, write './-o=x.png'; "
        "see refusion denoise --help\n"
    )
    assert cli.main(["denoise", "./-o=x.png", "--quiet"]) == 0
