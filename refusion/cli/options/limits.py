"""Options that limit the photos: their pixels and the memory of the process."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refusion.cli.options.values import count
from refusion.memory import parse_memory


def add_limit_options(add: Callable[..., argparse.Action]) -> None:
    """Add `--max-memory` and `--max-pixels`.

    Args:
        add: method `add_argument` of a parser or of a group.
    """
    add(
        "--max-memory", metavar="SIZE", help="memory limit per process, e.g. 4G; sets the tile size"
    )
    add("--max-pixels", type=count, metavar="N", help="refuse larger photos")


def memory_limit(options: argparse.Namespace) -> int | None:
    """The value of `--max-memory` in bytes; None for no limit.

    Args:
        options: parsed options.

    Raises:
        ConfigError: it is not a size.
    """
    return None if options.max_memory is None else parse_memory(options.max_memory, "--max-memory")
