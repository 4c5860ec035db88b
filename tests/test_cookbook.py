"""The code of the cookbook and of docs/concepts.md runs and prints what the pages show.

The blocks of one page share a folder and the names of Python. A block `text` is the output of the
block before it. Numbers may differ by a tenth; times and hashes may have any value.
"""

import contextlib
import io
import math
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.concepts import PIXEL, SDE_FINE
from benchmarks.one_pixel import spread_error
from refusion.cli import main
from refusion.sde import IRSDE, THETA_SCHEDULES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "cookbook"
PAGES = [*sorted(FOLDER.glob("*.md")), ROOT / "docs" / "concepts.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?(?![\w])")
SHARE, LEAST = 0.1, 0.02  # a number may differ by so much of its value, and by so much at least
ANY = re.compile(r"(sha256: )\w+|(seconds per photo: ).*")


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run_python(code, names):
    exec(compile(code, "page", "exec"), names)


def run_shell(code, names):
    for line in code.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "refusion"
        assert main(arguments) == 0


def write_file(code, names):
    Path(re.match(r"# (\S+)\n", code)[1]).write_text(code, encoding="utf-8")


RUNNERS = {"python": run_python, "sh": run_shell, "yaml": write_file}


def normal(text):
    """Lines with single spaces, without rules, times and hashes."""
    lines = [ANY.sub(r"\1\2", " ".join(line.split())) for line in text.strip().splitlines()]
    table = [line.endswith(" seconds") for line in lines]
    timed = lines.index(lines[table.index(True)]) if any(table) else len(lines)
    lines[timed + 1 :] = [re.sub(r" \d+\.\d+$", "", line) for line in lines[timed + 1 :]]
    return [re.sub(r"^-+$", "---", line) for line in lines]


def assert_same(found, shown):
    """Compare an output with the one that a page shows; a line `...` stands for any lines."""
    found, shown = normal(found), normal(shown)
    if "..." in shown:
        cut = shown.index("...")
        rest = len(shown) - cut - 1
        found = [*found[:cut], "...", *found[len(found) - rest :]]
    assert [NUMBER.sub("#", line) for line in found] == [NUMBER.sub("#", line) for line in shown]
    for line, expected in zip(found, shown, strict=True):
        for one, other in zip(numbers(line), numbers(expected), strict=True):
            assert math.isclose(one, other, rel_tol=SHARE, abs_tol=LEAST), (line, expected)


def numbers(line):
    return [float(number.replace(",", "")) for number in NUMBER.findall(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    names, printed = {"__name__": "page"}, ""
    for language, code in blocks(page):
        if language == "text":
            assert_same(printed, code)
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            RUNNERS[language](code, names)
        printed = output.getvalue()


def test_every_recipe_is_listed_and_says_what_you_get():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    for page in PAGES[:-1]:
        text = page.read_text(encoding="utf-8")
        if page.name != "index.md":
            assert f"({page.name})" in index
            assert re.search(r"^# .+\n\nYou get ", text)
            assert "\nRead on: " in text
            assert blocks(page)


def rows(table_head):
    """Cells of the rows below a heading of docs/concepts.md, by the first cell."""
    text = PAGES[-1].read_text(encoding="utf-8").split(table_head)[1].split("\n\n")[0]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {first: rest for first, *rest in cells[1:]}


def test_tables_of_concepts_are_computed():
    schedules = rows("| schedule | signal at t = 10 | t = 25 | t = 50 | t = 100 |\n")
    assert set(schedules) == set(THETA_SCHEDULES)
    for name, shown in schedules.items():
        sde = IRSDE(50, schedule=name)
        assert shown == [f"{sde.signal(t).item():.3f}" for t in (10, 25, 50, 100)]
    errors = rows("| relative error with | 10 calls | 40 calls | 160 calls | measured order |\n")
    assert len(errors) == 7
    for name, (few, more, *_) in errors.items():
        for calls, shown in ((10, few), (40, more)):
            error = abs(spread_error(PIXEL, SDE_FINE, f"{name}@log_snr", calls))
            assert f"{error:.1e}".replace("e-0", "e-") == shown


@pytest.mark.parametrize(
    ("found", "shown"),
    [("psnr 20.0", "psnr 30.0"), ("a 1", "b 1"), ("one\ntwo", "one"), ("x\ny\nz", "x\n...\nw")],
)
def test_a_wrong_output_would_be_noticed(found, shown):
    with pytest.raises(AssertionError):
        assert_same(found, shown)


def test_times_and_lines_left_out_are_free():
    assert_same("image psnr seconds\na 20.00 9.10", "image psnr seconds\na 20.01 0.02")
    assert_same("x\ny\nz", "x\n...\nz")
    assert_same("sha256: ab12", "sha256: cd34")
