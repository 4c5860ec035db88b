"""What the documentation tells people to type works as written."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from refusion.app import command
from refusion.cli import (
    check_submission,
    import_official,
    import_sd,
    info,
    restore,
    test,
    train,
)
from refusion.config import load_config
from refusion.images.io import read_image, write_image

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {"train.py": train.build_parser, "test.py": test.build_parser}
PARSERS |= {"tiled_infer.py": restore.build_parser, "import": import_official.build_parser}
PARSERS |= {"check-submission": check_submission.build_parser, "info": info.build_parser}
PARSERS |= {"refusion.app": command.build_parser}
PARSERS |= {"import-sd": import_sd.build_parser}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands():
    """Commands of ours from their own name on, whoever starts them (python, torchrun, srun)."""
    texts = [block.replace("\\\n", " ") for page in PAGES for block in blocks(page, "sh")]
    lines = [line for text in texts for line in text.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    starts = [next((n for n, w in enumerate(line) if w in PARSERS), None) for line in words]
    return [line[n:] for line, n in zip(words, starts, strict=True) if n]


def test_there_are_commands():
    assert {words[0] for words in commands()} == set(PARSERS)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_parses_and_its_options_file_loads(words):
    options = PARSERS[words[0]]().parse_args(words[1:])
    named = getattr(options, "opt", None)
    if named and not str(named).startswith("their/"):
        load_config(ROOT / named)


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for target in re.findall(r"^make ([a-z-]+)", text, re.M):
        assert target in targets


def test_files_named_exist():
    for page in PAGES:
        links = re.findall(r"\]\((?!http)([^)#]*[./][^)#]*)\)", page.read_text(encoding="utf-8"))
        missing = [link for link in links if not (page.parent / link).exists()]
        assert not missing, f"{page.name} links to {missing}"


def test_python_of_the_measuring_page_runs(capsys):
    (code,) = blocks(ROOT / "docs/measuring.md", "python")
    exec(compile(code, "measuring.md", "exec"), {})
    assert "psnr_y" in capsys.readouterr().out


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    (code,) = blocks(ROOT / "README.md", "python")
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    monkeypatch.chdir(tmp_path)
    write_image("hazy.jpg", image, None)
    exec(compile(code, "README.md", "exec"), {})
    assert read_image("clear.jpg").image.shape == image.shape
