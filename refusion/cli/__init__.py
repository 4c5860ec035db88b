"""Command line: `refusion COMMAND`; the scripts in the top folder call the same functions.

Every entry point has the signature `(argv: list[str] | None = None) -> int` and returns the exit
code: 0 for success, 2 for an error that the user can fix, 70 for an error of the program, 130 after
Ctrl-C or SIGTERM, 141 for a closed pipe.
A command is a module with the function `run(argv: list[str]) -> int` and an entry in `COMMANDS`. It
is imported only when it is used, so that `--help` does not wait for PyTorch. A shipped task is a
command, too: `refusion dehaze` does what `refusion restore --task dehaze` does. Options that
several commands share are in `options`. In the package, only `refusion.app` may import from here.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import sys
from types import ModuleType

from refusion.cli.common import (
    Parser,
    check_memory,
    errors_to_exit_codes,
    sigterm_as_interrupt,
)
from refusion.errors import suggest
from refusion.weights import ABOUT

__all__ = ["main", "restore_main", "test_main", "train_main"]

TASKS = {task: about.does for task, about in ABOUT.items()}
COMMANDS = {
    "tasks": "list the shipped models, with their quality",
    "app": "open the page in the browser",
    "restore": "restore photos with a trained model",
    "init": "write an option file for training",
    "schema": "print the JSON Schema of the option files",
    "train": "train a model with an option file",
    "test": "measure a model on photos with ground truth",
    "import": "convert published .pth files to a weights file",
    "import-sd": "convert a Stable Diffusion in one file to a folder",
    "info": "describe a weights file",
    "export": "write a model as an ONNX file",
    "average": "average the weights of several runs",
    "check-submission": "check a challenge entry",
    "completion": "write a script with which a shell completes commands and options",
}
# Modules that are not `refusion.cli.COMMAND`: a module name is not a keyword and has no hyphen.
MODULES = {
    "app": "refusion.app.command",
    "import": "refusion.cli.import_official",
    "import-sd": "refusion.cli.import_sd",
    "check-submission": "refusion.cli.check_submission",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of `refusion`: run a command.

    Args:
        argv: arguments after the name of the program; None for `sys.argv[1:]`.

    Returns:
        Exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        _parser().print_help()
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in [*TASKS, *COMMANDS]:
        hint = suggest(arguments[0], [*TASKS, *COMMANDS])
        _parser().error(f"unknown command '{arguments[0]}'{hint}; see refusion --help")
    # Only the first argument is parsed here; the command parses the others, also `--help`.
    command, rest = _parser().parse_args(arguments[:1]).command, arguments[1:]
    options = rest[: rest.index("--")] if "--" in rest else rest
    if command in TASKS and any(word.partition("=")[0] == "--task" for word in options):
        _parser().error(f"--task: {command} names the task; leave --task out")
    return _run(command, rest)


def restore_main(argv: list[str] | None = None) -> int:
    """Entry point of `tiled_infer.py`: restore photos; see `main`."""
    return _run("restore", argv)


def train_main(argv: list[str] | None = None) -> int:
    """Entry point of `train.py`: train a model from an option file; see `main`."""
    return _run("train", argv)


def test_main(argv: list[str] | None = None) -> int:
    """Entry point of `test.py`: measure a model; see `main`."""
    return _run("test", argv)


@errors_to_exit_codes
def _run(command: str, argv: list[str] | None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if not {"-h", "--help"}.intersection(arguments):
        check_memory()
    # Before it ends, Python searches all objects for cycles, which takes seconds with PyTorch.
    atexit.register(gc.freeze)
    # Training saves its state after SIGTERM, see `refusion.training.interrupts`; the page ends.
    handles_signals = command in ("train", "app")
    with contextlib.nullcontext() if handles_signals else sigterm_as_interrupt():
        module = import_command(command)
        return module.run(arguments, command) if command in TASKS else module.run(arguments)


def import_command(command: str) -> ModuleType:
    """The module of a command or of a task, whose functions then take the task as an argument."""
    name = "restore" if command in TASKS else command
    return importlib.import_module(MODULES.get(name, f"refusion.cli.{name}"))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = [("photos:", TASKS), ("", {}), ("more commands:", COMMANDS)]
    lines = [
        [head, *(f"  {name:<{width}}  {does}" for name, does in part.items())]
        for head, part in listed
    ]
    parser = Parser(
        prog="refusion",
        description="Restore photos: 'refusion dehaze photo.jpg' writes results/photo.jpg.",
        epilog="\n".join(
            [line for part in lines for line in part]
            + ["", "'refusion COMMAND --help' lists the options of a command."]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=[*TASKS, *COMMANDS], metavar="COMMAND", help="see below")
    return parser
