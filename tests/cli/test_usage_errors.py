"""Messages for arguments that a command does not know."""

import pytest

from refusion import cli


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["dehaze", "--strenght", "2", "a.jpg"], "unknown option '--strenght'; did you mean '--st"),
        (["dehaze", "--strenght=2", "a.jpg"], "unknown option '--strenght'; did you mean '--st"),
        (["restore", "a.jpg", "-o", "x"], "unknown option '-o'; did you mean '--output'?"),
        (["restore", "-i", "a.jpg"], "unknown option '-i'; did you mean '--input'?"),
        (["restore", "--model=x"], "'--model'; did you mean '--weights' or '--task'?"),
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
