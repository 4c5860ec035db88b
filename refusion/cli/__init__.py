"""Command line: `refusion COMMAND`; the top folder's scripts call the same code.

Every entry point has the signature `(argv: list[str] | None = None) -> int` and returns the exit
code: 0 done, 2 something the user can fix, 130 interrupted. A sub-command lives in the module of
its name, which offers `run(argv: list[str]) -> int`, and is imported only when asked for.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from refusion import __version__
from refusion.cli.common import errors_to_exit_codes

__all__ = ["main", "restore_main", "test_main", "train_main"]

COMMANDS = {
    "restore": "restore photos with a trained model",
    "init": "write an option file to train from",
    "schema": "print the JSON Schema of the option files",
    "train": "train a model from an options file",
    "test": "measure a model on photos with ground truth",
    "import": "make a model of the authors' released .pth files",
    "import-sd": "make a folder of a Stable Diffusion in one published file",
    "info": "say what a weights file is",
    "average": "average the weights of several runs",
    "check-submission": "check a challenge entry",
}
# Modules whose name differs: a keyword or a hyphen cannot stand in the name of a module.
MODULES = {
    "import": "import_official",
    "import-sd": "import_sd",
    "check-submission": "check_submission",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `refusion` command: dispatch to a sub-command."""
    arguments = sys.argv[1:] if argv is None else argv
    # Only the first word is read here; the sub-command parses the rest, `--help` included.
    command = _parser().parse_args(arguments[:1]).command
    return _run(command, arguments[1:])


def restore_main(argv: list[str] | None = None) -> int:
    """Entry point of `tiled_infer.py`: restore photos."""
    return _run("restore", argv)


def train_main(argv: list[str] | None = None) -> int:
    """Entry point of `train.py`: train from an options file."""
    return _run("train", argv)


def test_main(argv: list[str] | None = None) -> int:
    """Entry point of `test.py`: measure a model."""
    return _run("test", argv)


@errors_to_exit_codes
def _run(command: str, argv: list[str] | None) -> int:
    module = importlib.import_module(f"refusion.cli.{MODULES.get(command, command)}")
    return module.run(sys.argv[1:] if argv is None else argv)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="refusion",
        description="Restore photos with mean-reverting diffusion.",
        epilog="\n".join(
            ["commands:"]
            + [f"  {name:<{width}}  {meaning}" for name, meaning in COMMANDS.items()]
            + ["", "'refusion COMMAND --help' lists the options of a command."]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"refusion {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser
