"""`refusion schema`: the JSON Schema of the option files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from refusion.cli.common import Parser
from refusion.errors import ConfigError


def run(argv: list[str]) -> int:
    """Print the schema, or write it to a file.

    Returns:
        0: done.

    Raises:
        ConfigError: `-o` names a folder, or the file cannot be written.
    """
    options = build_parser().parse_args(argv)
    text = schema_text()
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_text(output_file(options.output), text)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = Parser(
        prog="refusion schema",
        description="Print the JSON Schema (draft 2020-12) of the option files: all keys, types, "
        "ranges and defaults. Editors complete and check an option file with it.",
        epilog="Rules between sections are not in the schema; 'refusion train' checks them.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file instead")
    return parser


def schema_text() -> str:
    """The schema as JSON text, ASCII, which every terminal and editor can read."""
    from refusion.config.json_schema import json_schema  # needs torch, which --help must not load

    return json.dumps(json_schema(), indent=2) + "\n"


def output_file(text: str) -> Path:
    """The file that option `-o` names.

    Raises:
        ConfigError: it is a folder, has no file name, or its folder cannot be read.
    """
    file = Path(text)
    try:
        is_folder = not file.name or text.endswith(("/", os.sep)) or file.is_dir()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    if is_folder:
        raise ConfigError(f"-o {text}: expected a file name, got a folder; add a file name")
    return file


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    from refusion.files import atomic_write

    try:
        with atomic_write(file) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
