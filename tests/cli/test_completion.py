"""Scripts with which shells complete the command line."""

import shutil
import subprocess

import pytest

from refusion import cli

ASK = """
COMP_WORDS=({words}); COMP_CWORD={last}; _refusion; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(capsys):
    def of(shell):
        assert cli.main(["completion", shell]) == 0
        return capsys.readouterr().out

    return of


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["refusion", "de"], ["dehaze", "dehaze_landscape", "deshadow", "denoise"]),
        (["refusion", "dehaze", "--strengt"], ["--strength"]),
        (["refusion", "train", "--mi"], ["--minutes"]),
        (["refusion", "dehaze", "--format", "p"], ["png"]),
        (["refusion", "restore", "--task", "bo"], ["bokeh"]),
        (["refusion", "dehaze", "photo"], [""]),
        (["refusion", "init", "deshadow_i"], ["deshadow_irsde"]),
        (["refusion", "init", "--fo"], ["--force"]),
        (["refusion", "info", "bo"], ["bokeh"]),
        (["refusion", "completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bash_completes(script, words, expected):
    ask = ASK.format(words=" ".join(words), last=len(words) - 1)
    done = subprocess.run(
        ["bash", "-c", script("bash") + ask], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == expected


def test_zsh_uses_the_script_of_bash(script):
    assert script("zsh").endswith(script("bash"))
    assert "bashcompinit" in script("zsh")


def test_fish_gets_a_line_per_command_and_option(script):
    lines = script("fish").splitlines()
    assert all(line.startswith("complete -c refusion -n ") for line in lines)
    assert all(any(f" -a {name} -d " in line for line in lines) for name in cli.COMMANDS)
    (line,) = (line for line in lines if "from dehaze'" in line and " -l format " in line)
    assert line.endswith("-x -a 'jpeg png tiff webp avif jxl'")


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_reads_the_script(script, tmp_path):
    (tmp_path / "a.fish").write_text(script("fish"))
    subprocess.run(["fish", "--no-execute", tmp_path / "a.fish"], check=True)
