"""The table of docs/formats.md is what the formats do."""

from __future__ import annotations

import importlib.util

import format_table
import pytest

PAGE = format_table.PAGE.read_text(encoding="utf-8").splitlines()
ROWS = {line.split(" | ")[0].removeprefix("| "): line for line in PAGE if line.startswith("| ")}
NEEDED = {"HEIC": "pillow_heif", "camera raw, DNG": "rawpy", "JPEG XL": "pylibjxl"}


@pytest.mark.parametrize("name", format_table.FORMATS)
def test_every_row_of_the_page(tmp_path, name):
    package = NEEDED.get(name, "numpy")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    measured = format_table.lines(format_table.table(tmp_path, [name]))[-1]
    assert ROWS[name] == measured, "python tests/images/format_table.py writes the page again"


def test_the_page_has_all_formats():
    assert format_table.HEAD in PAGE
    assert list(ROWS)[list(ROWS).index("format") + 1 :] == list(format_table.FORMATS)
