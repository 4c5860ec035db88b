"""The commands and the code of the README and of every page work as written."""

import ast
import importlib
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from refusion.cli import COMMANDS as SUB_COMMANDS
from refusion.cli import MODULES, TASKS, lite, restore, restore_main, test, train
from refusion.config import config_from_dict, load_config
from refusion.images.io import read_image, write_image

ROOT = Path(__file__).parent.parent
CARDS = sorted((ROOT / "refusion" / "weights").glob("*.md"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *CARDS,
]
SCRIPTS = {"train.py": train, "test.py": test, "tiled_infer.py": restore, "refusion-lite": lite}
# Tests of these pages run their code with files of their own.
TESTED_ELSEWHERE = {"docs/extending.md": "tests/test_add_your_own.py"}
OTHER_PROGRAMS = ("make", "git clone", "pip install", "python benchmarks/", "tensorboard")
OTHER_PROGRAMS += (". .venv/bin/activate", "cd ", "cp ", "ls ", "mkdir ", "export ")


def relative(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Code blocks of one language, also those inside a list."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def shell_lines():
    """(page, words) of each command in a shell block."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield page, words


def program(words):
    """Module of the first of our programs in a command and what follows it, or None."""
    for n, word in enumerate(words):
        if word in SCRIPTS:
            return SCRIPTS[word], words[n + 1 :]
        if word == "refusion" and words[n + 1 : n + 2] and words[n + 1] in SUB_COMMANDS:
            name = MODULES.get(words[n + 1], f"refusion.cli.{words[n + 1]}")
            return importlib.import_module(name), words[n + 2 :]
        if word == "refusion" and words[n + 1 : n + 2] and words[n + 1] in TASKS:
            return SCRIPTS["tiled_infer.py"], ["--task", words[n + 1], *words[n + 2 :]]
        if word == "-m" and words[n + 1] == "refusion.app":
            return importlib.import_module("refusion.app.command"), words[n + 2 :]
        if word == "-m" and words[n + 1].startswith("benchmarks."):
            found = importlib.import_module(words[n + 1])
            if hasattr(found, "__path__"):  # a package is run by its `__main__`
                found = importlib.import_module(f"{words[n + 1]}.__main__")
            return found, words[n + 2 :]
    return None


COMMANDS = [(page, words) for page, words in shell_lines() if program(words)]


def command_id(value):
    return relative(value) if isinstance(value, Path) else " ".join(value)


def test_there_are_commands_of_every_kind():
    modules = {program(words)[0].__name__.split(".")[-1] for _, words in COMMANDS}
    assert modules >= {"train", "test", "restore", "import_official", "import_sd", "info"}
    assert modules >= {"check_submission", "average", "command", "choosing"}
    assert len(COMMANDS) >= 50


def test_every_other_line_is_a_known_program():
    others = [" ".join(words) for _, words in shell_lines() if not program(words)]
    assert [line for line in others if not line.startswith(OTHER_PROGRAMS)] == []


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=command_id)
def test_command_parses_and_its_options_file_loads(page, words):
    module, arguments = program(words)
    if not hasattr(module, "build_parser"):
        source = Path(module.__file__).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in arguments if word.startswith("--"))
        return
    options = module.build_parser().parse_args(arguments)
    named = str(getattr(options, "opt", None) or "")
    if not named or named.startswith("their/") or f"# {named}\n" in page.read_text("utf-8"):
        return
    settings = getattr(options, "set", None) or ()
    load_config(ROOT / named, settings)


def test_set_with_a_wrong_key_would_be_noticed():
    with pytest.raises(Exception, match="stepz"):
        load_config(ROOT / "options/toy.yml", ["train.stepz=3"])


def test_make_targets_and_extras_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    extras = re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.M):
        assert "".join(target) in targets
    for extra in re.findall(r"\b(?:refusion|\.)\[([a-z]+)\]'", text):
        assert extra in extras


def runnable():
    """Commands that restore photos with the weights that ship, in one process."""
    for page, words in COMMANDS:
        restores = words[:2] == ["python", "tiled_infer.py"] or words[:2] == ["refusion", "restore"]
        given = {"--sd", "--weights", "--plugin"} & set(words)
        if restores and not given and relative(page) not in TESTED_ELSEWHERE:
            yield program(words)[1]


@pytest.mark.parametrize("arguments", dict.fromkeys(map(tuple, runnable())), ids=" ".join)
def test_restoring_commands_run(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = restore.build_parser().parse_args(arguments)
    image = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))  # kernels have 15
    for name in filter(None, [*(options.photos or options.input), options.mask, options.disparity]):
        path = Path(name) if Path(name).suffix else Path(name) / "a.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image, None)
    assert restore_main([*arguments, "--quiet"]) == 0
    output = Path(options.output or "results")
    assert output.is_file() or any(output.iterdir())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=relative)
def test_python_compiles_and_what_it_imports_exists(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code, page.name)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("refusion"):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def pages_that_run():
    names = [page for page in PAGES if blocks(page, "python")]
    elsewhere = ("docs/cookbook/", "docs/concepts.md", *TESTED_ELSEWHERE)
    return [page for page in names if not relative(page).startswith(elsewhere)]


@pytest.mark.parametrize("page", pages_that_run(), ids=relative)
def test_python_runs(page, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if any("refusion.runtime" in code for code in blocks(page, "python")):
        pytest.importorskip("onnxruntime")
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    write_image("hazy.jpg", image, None)
    shutil.copy(tiny_checkpoint("pixel"), "average.safetensors")
    for name in ("stage2", "former"):
        shutil.copy(tiny_checkpoint("denoise"), f"{name}.safetensors")
    for name in ("first", "dehaze_landscape"):
        shutil.copy(tiny_checkpoint("haze"), f"{name}.safetensors")
    names = {"WEIGHTS": tiny_checkpoint("haze"), "PHOTO": "hazy.jpg"}  # of models that do not ship
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), names)
    if "clear.jpg" in page.read_text(encoding="utf-8"):
        assert read_image("clear.jpg").image.shape == image.shape


def test_pages_tested_elsewhere_are():
    for page, path in TESTED_ELSEWHERE.items():
        assert Path(page).name in (ROOT / path).read_text(encoding="utf-8")


def experiment(fragment):
    """A complete experiment that holds a fragment of a YAML file."""
    run = yaml.safe_load((ROOT / "options/derain.yml").read_text(encoding="utf-8"))
    if "degradation" in fragment:
        synthetic = {"type": "SyntheticPairs", "folders": ["photos"], "patch": 128}
        fragment = {"data": {"train": synthetic | fragment}}
    for section, values in fragment.items():
        run[section] = run[section] | values if isinstance(values, dict) else values
    return run


YAML = [(page, text) for page in PAGES for text in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), YAML, ids=lambda value: Path(str(value)).name[:40])
def test_yaml_has_valid_keys(page, text):
    content = yaml.safe_load(text)
    if relative(page) in TESTED_ELSEWHERE:
        return
    config_from_dict(
        content if "network" in content and "stage" in content else experiment(content)
    )


def test_a_wrong_key_in_a_fragment_would_be_noticed():
    with pytest.raises(Exception, match="lq_sufix"):
        config_from_dict(experiment({"data": {"train": {"type": "PairedFolder", "lq_sufix": ""}}}))
