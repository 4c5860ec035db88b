"""Rows of the tables: programs print them as lines of JSON as soon as they are measured."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refusion.errors import one_line
from refusion.files import open_regular
from refusion.memory import is_out_of_memory

STARTED = "REFUSION_PART_STARTED"  # value of time.monotonic(), which all processes share
KEY = "table"  # first key of a row
LEFT_OUT, NO_MEMORY = "left out, the time was up", "out of memory"
"""Errors of rows that are results, too."""
_MAX_BYTES = 2**24


def emit(table: str, **values: Any) -> None:
    """Print a row at once, so that it is kept if the program is killed.

    Args:
        table: name of the table.
        values: numbers and texts by column.
    """
    sys.stdout.write(json.dumps({KEY: table} | values) + "\n")
    sys.stdout.flush()


def read_rows(log: Path) -> list[dict[str, Any]]:
    """The rows in a log; other lines and lines that are not complete are left out."""
    rows = []
    with open_regular(log) as file:
        text = file.read(_MAX_BYTES).decode(errors="replace")
    for line in text.splitlines():
        if line.startswith(f'{{"{KEY}": '):
            try:
                rows.append(json.loads(line))
            except ValueError:  # the program was killed while it wrote
                continue
    return rows


def failures(rows: list[dict[str, Any]]) -> int:
    """Number of measurements that failed; those that lack time or memory are not counted."""
    return sum(row.get("error", LEFT_OUT) not in (LEFT_OUT, NO_MEMORY) for row in rows)


class Deadline:
    """The time that a program may use.

    Args:
        seconds: time from the start of the program if the environment variable `STARTED` has it,
            so that imports count, else from now on.
        clock: function that returns seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = float(os.environ.get(STARTED, clock())) + seconds

    def left(self) -> float:
        """Seconds that are left; 0 or less if the time is up."""
        return self._end - self._clock()


@contextmanager
def row_of_errors(table: str, **values: Any) -> Iterator[None]:
    """Context of one measurement, whose error becomes a row: the next one is not affected.

    Args:
        table: name of the table.
        values: columns that name the measurement.
    """
    try:
        yield
    except Exception as error:
        text = NO_MEMORY if is_out_of_memory(error) else one_line(error, 200)
        emit(table, **values, error=text or type(error).__name__)


def markdown(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of rows of one table; a column that a row lacks is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != KEY))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = (_text(row.get(name, "")) for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
