"""`refusion init`: write an option file to start from."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path

from refusion.cli.common import Parser, show
from refusion.errors import ConfigError, printable

SCHEMA_FILE = "refusion.schema.json"
"""Schema beside an option file; `refusion init` names it in the first line of the option file."""


def run(argv: list[str]) -> int:
    """Write the option file of a task, or list the option files.

    Returns:
        0: done.

    Raises:
        ConfigError: unknown name, options without a task, `-o` names a folder, or a file exists
            already and `--force` was not given.
    """
    options = build_parser().parse_args(argv)
    from refusion.cli.schema import output_file, schema_text, write_text
    from refusion.config.option_files import find_option_file, option_files, summary

    if options.task is None:
        _check_no_options(options)
        files = option_files()
        width = max(map(len, files), default=0)
        show(*(f"{name:<{width}}  {summary(files[name])}" for name in files))
        return 0
    source = find_option_file(options.task)
    target = Path(source.name) if options.output is None else output_file(options.output)
    schema = target.with_name(SCHEMA_FILE)
    if not options.force:
        _check_absent(target)
        if options.schema:
            _check_absent(schema)
    if options.schema:
        write_text(schema, schema_text())
    head = f"# yaml-language-server: $schema={schema.name}\n" if _is_file(schema) else ""
    write_text(target, head + _own_text(source, target))
    show(
        f"{target}: written. Set the folders of your photos under 'data', then train:",
        f"  refusion train -opt {shlex.quote(str(target))}",
    )
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = Parser(
        prog="refusion init",
        description="Write an option file to train from, with all settings and comments. Without "
        "TASK, list the option files.",
        epilog="Exit code: 0 written or listed, 2 wrong usage or a file that exists.",
    )
    parser.add_argument("task", nargs="?", metavar="TASK", help="name of an option file: deshadow")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="file to write (default: TASK.yml in this folder)"
    )
    parser.add_argument(
        "--schema",
        action="store_true",
        help=f"also write {SCHEMA_FILE} beside it, with which editors complete and check keys",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")
    return parser


def _own_text(source: Path, target: Path) -> str:
    """The option file with the run's name and the commands of its comments for the new file."""
    text = source.read_text(encoding="utf-8")
    if target.stem == source.stem:
        return text
    text = text.replace(f"options/{source.name}", printable(target))
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", target.stem).lstrip("_.-")
    if not name:
        return text
    # The comment behind the name may give the run folder, runs/NAME.
    line = re.search(r"(?m)^name: ([^ #\n]+).*$", text)
    return text.replace(line[0], re.sub(rf"\b{re.escape(line[1])}\b", name, line[0]), 1)


def _is_file(path: Path) -> bool:
    """Whether the file exists; no if its folder cannot be read."""
    try:
        return path.is_file()
    except OSError:
        return False


def _check_no_options(options: argparse.Namespace) -> None:
    """Refuse options that need a task."""
    given = {
        "-o": options.output is not None,
        "--schema": options.schema,
        "--force": options.force,
    }
    names = ", ".join(name for name, is_given in given.items() if is_given)
    if names:
        raise ConfigError(
            f"{names}: expected a TASK before these options, got none; write for example "
            "'refusion init deshadow', or list the option files with 'refusion init'"
        )


def _check_absent(file: Path) -> None:
    if os.path.lexists(file):
        raise ConfigError(f"{file}: exists; choose another file with -o, or overwrite with --force")
