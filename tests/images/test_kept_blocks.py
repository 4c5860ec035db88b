"""The table of docs/using.md: what becomes of each block of metadata in each format.

The cells come from the page. Each is checked with files of every format that can hold the block.
"""

from __future__ import annotations

import re
from pathlib import Path

import kept_checks_of_texts  # noqa: F401 - registers its checks
import pytest
from kept_checks import CHECKS, FORMATS

from refusion.images.io import read_image, write_image

PAGE = Path(__file__).parents[2] / "docs" / "using.md"
ROWS = {
    cells[0]: dict(zip(FORMATS, cells[1:], strict=True))
    for cells in re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if cells[0] != "block"
}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("row", ROWS)
def test_every_cell_of_the_page(tmp_path, caplog, row, target):
    sources, words = CHECKS[row]
    word = ROWS[row][target]
    assert sources
    for suffix, source in sources.items():
        caplog.clear()
        (tmp_path / f"a.{suffix}").write_bytes(source)
        photo = read_image(tmp_path / f"a.{suffix}")
        write_image(tmp_path / f"b.{target}", photo.samples, photo)
        result = (tmp_path / f"b.{target}").read_bytes()
        warnings = [record for record in caplog.records if "dropped" in record.message]
        has_warning = word in ("dropped", "shortened") or words.get("warns") == target
        assert len(warnings) == has_warning, caplog.text
        words[word](source, result, target, caplog.text)
        again = read_image(tmp_path / f"b.{target}")  # the result has no damaged block
        assert again.samples.shape == photo.samples.shape


def test_the_checks_are_those_of_the_page():
    assert set(CHECKS) == set(ROWS) and len(ROWS) == 20
