"""Scores as files: JSON with all details of the run, and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import ConfigError, printable
from refusion.files import atomic_write

if TYPE_CHECKING:  # imports torch, which `refusion test --help` does not need
    from refusion.evaluation.scoring import Evaluation

# Begins of formulas, also in full-width letters, at the start of a cell. In many countries a
# spreadsheet takes a semicolon for the end of a cell.
_FORMULA = re.compile("(^|;)(?=\\s*[=+@\uff1d\uff0b\uff0d\uff20-]|[\t\r\n])")


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a JSON file; after an error an older file is left unchanged.

    Args:
        path: the file.
        report: JSON values without infinity and nan.

    Raises:
        ConfigError: the file cannot be written.
    """
    _write("--json", path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, results: Mapping[str, Evaluation]) -> None:
    """Write a line for each set, photo and method, and the means of each method and set.

    Columns: set, image, method ('input', the baselines, 'result'), every metric, and `seconds` and
    `io_seconds`, which only results have. A value that was not measured is empty; the PSNR of equal
    images is inf. A name that a spreadsheet would take for a formula begins with an apostrophe.
    After an error an older file is left unchanged.

    Args:
        path: the file.
        results: scores of each set, by its name.

    Raises:
        ConfigError: the file cannot be written.
    """
    metrics = list(dict.fromkeys(key for one in results.values() for key in one.mean.result))
    lines = [["set", "image", "method", *map(_cell, metrics), "seconds", "io_seconds"]]
    for name, evaluation in results.items():
        for row in (*evaluation.rows, evaluation.mean):
            for method, values in row.methods.items():
                times = [f"{row.seconds:.4f}", f"{row.io_seconds:.4f}"]
                cells = [values.get(metric, "") for metric in metrics]
                names = map(_cell, (name, row.name, method))
                lines.append([*names, *cells, *(times if method == "result" else ["", ""])])
    _write("--csv", path, _csv(lines))


def _cell(name: str) -> str:
    """A printable name; an apostrophe says to a spreadsheet that it is a text, not a formula."""
    return printable(_FORMULA.sub(r"\1'", name))


def _csv(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _write(option: str, path: Path, text: str) -> None:
    try:
        with atomic_write(path) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{option}: cannot write '{path}': {error.strerror}") from error
