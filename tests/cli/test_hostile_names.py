"""Names of files from somebody else: nothing that a terminal, browser or spreadsheet obeys."""

import csv
import io
import json
import logging
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from cli_cases import make

from refusion import cli
from refusion.batch.plan import Job, PhotoFiles
from refusion.batch.progress import BatchBar
from refusion.checkpoint import read_checkpoint, save_checkpoint
from refusion.cli.log_lines import LineFormatter
from refusion.errors import printable
from refusion.evaluation import score_files

NAMES = (
    "=1+1",
    "-2",
    "+3",
    "@sum",
    "\t=1",
    "\r",
    " =4",
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31m",
    "\u202egpj",
    "a\nb",
    "<img src=x onerror=alert(1)>",
    '"quoted"',
    os.fsdecode(b"\xff\xfe"),
    "Café",
)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("lq", "gt"):
        for number, name in enumerate(NAMES):
            make(f"{folder}/{name}.png", seed=number)


def is_safe(text):
    """All lines are printable and of a normal length, also in an encoding of Western Europe."""
    assert text
    return all(line.isprintable() and len(line) < 1100 for line in text.split("\n"))


def test_restore_shows_and_logs_every_name(work, tiny_checkpoint, capsys):
    Path("lq/broken\x1b[31m.png").write_bytes(b"")
    argv = ["--input", "lq", "--weights", str(tiny_checkpoint()), "--device", "cpu"]
    options = ["--compare", "--log-file", "log.json", "--strength", "0"]
    assert cli.restore_main([*argv, *options]) == 1
    out, err = capsys.readouterr()
    assert is_safe(out)
    assert is_safe(err)
    assert "refusion: failed: lq/broken\\x1b[31m.png: empty file\n" in err
    assert "before and after: results/\\udcff\\udcfe_compare.png\n" in out
    assert "before and after: results/Café_compare.png\n" in out
    photos = json.loads(Path("log.json").read_text(encoding="utf-8"))["photos"]
    assert {photo["input"] for photo in photos} == {str(path) for path in Path("lq").iterdir()}
    assert all(Path("results", f"{name}.png").is_file() for name in NAMES)


def test_scores_pages_and_tables_hold_every_name(work, tiny_checkpoint, capsys):
    own = ["--weights", str(tiny_checkpoint()), "--device", "cpu", "--lq", "lq", "--gt", "gt"]
    assert cli.test_main([*own, "--output", "out", "--html", "page.html"]) == 0
    out, err = capsys.readouterr()
    assert is_safe(out)
    assert "\x1b" not in err
    with Path("out/scores.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    cells = {line["image"] for line in lines} - {"mean"}
    quoted = {f"'{printable(name)}" for name in NAMES[:7]}
    assert cells == {*quoted, *map(printable, NAMES[7:])}
    assert all(float(line["psnr"]) > 0 for line in lines)
    report = json.loads(Path("out/scores.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in report["sets"]["lq"]["images"]} == set(NAMES)
    page = Path("page.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    # Two in the slider of a photo; input, result and ground truth beside each other.
    assert len(tags.images) == (2 + 3) * len(NAMES)
    assert all(set(image) - {"class"} == {"alt", "src"} for image in tags.images)
    assert "\x1b" not in page
    assert "\u202e" not in page


class Tags(HTMLParser):
    """Collects the attributes of the images of a page."""

    def __init__(self):
        super().__init__()
        self.images = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))


def test_a_formula_behind_a_semicolon_is_quoted_too():
    assert score_files._cell("a;=1+1;b; @c") == "a;'=1+1;b;' @c"
    assert score_files._cell("=1;b") == "'=1;b"


def test_numbers_are_not_quoted():
    assert score_files._csv([["a", -1.5, "-2"]]) == "a,-1.5,-2\n"
    assert [score_files._cell(name) for name in ("\uff1d1", "01.jpg", "")] == [
        "'\uff1d1",
        "01.jpg",
        "",
    ]


def test_info_shows_what_a_file_claims(tiny_checkpoint, tmp_path, capsys):
    checkpoint = read_checkpoint(tiny_checkpoint())
    claims = {f"k{number}\x1b[2J": "v\x9b31m\u202e" + "x" * 1500 for number in range(300)}
    path = tmp_path / "a\x1b[31m.safetensors"
    save_checkpoint(path, checkpoint.model, checkpoint.tensors, claims)
    assert cli.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert is_safe(out)
    assert out.count("\n") <= 201
    assert "more lines; --json shows all\n" in out
    assert cli.main(["info", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["training"] == claims
    assert out.isascii()


def test_log_records_are_one_line_and_tracebacks_keep_theirs(monkeypatch):
    monkeypatch.delenv("REFUSION_DEBUG", raising=False)
    record = logging.LogRecord("x", logging.INFO, "a.py", 1, "%s", ("a\x1b[2J\nb",), None)
    assert LineFormatter("! %(message)s").format(record) == "! a\\x1b[2J b"
    monkeypatch.setenv("REFUSION_DEBUG", "1")
    assert LineFormatter().format(record) == "a\\x1b[2J\nb"
    try:
        raise ValueError("c\x07")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert LineFormatter().format(record).endswith("\nValueError: c\\x07")


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


def test_the_progress_bar_shows_printable_names(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    job = Job((PhotoFiles(Path("in/a\x9b2J\udcff\n" + "x" * 300), Path("out")),))
    with BatchBar([1], quiet=False) as bar:
        bar.update(0, job, "read", 1, 2)
    assert "1/1 a\\x9b2J\\udcff\\nxxx" in terminal.getvalue()
    assert "x" * 60 not in terminal.getvalue()


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_messages_about_arguments_are_one_line(command, capsys):
    argument = "\x1b[31m\u202e\n" + "x" * 10**5
    for argv in ([f"--{argument}"], [argument], ["--seed", argument], ["--opt", argument]):
        try:
            code = cli.main([*command, *argv])
        except SystemExit as ended:
            code = ended.code
        err = capsys.readouterr().err
        assert code in (1, 2), argv[0][:9]
        assert is_safe(err)
        assert len(err.splitlines()[-1]) < 1100
