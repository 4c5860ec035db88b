"""Numbers of options: the digits 0 to 9 within stated limits, and one line about all others."""

import argparse
import re

import pytest

from refusion.app.command import build_parser as app_parser
from refusion.cli import average, export, import_official, lite, restore, test, train
from refusion.cli.options.values import finite_number, integer, whole_between

WRONG = [
    "",
    " ",
    "-",
    "--5",
    "1.5",
    "1e3",
    "1_0",
    "0x1",
    "٣",
    "\uff13",
    "²",
    "9" * 11,
    "9" * 5000,
    "x",
]
PARSERS = {
    "app": app_parser,
    "average": average.build_parser,
    "export": export.build_parser,
    "import": import_official.build_parser,
    "lite": lite.build_parser,
    "restore": restore.build_parser,
    "test": test.build_parser,
    "train": train.build_parser,
}
WHOLE = {
    "app": ["--port"],
    "average": ["--best"],
    "export": ["--steps"],
    "import": ["--T"],
    "lite": ["--threads", "--seed", "--quality", "--max-pixels"],
    "restore": ["--tile", "--seed", "--steps", "--samples", "--quality", "--max-pixels"],
    "test": ["--limit", "--max-side", "--crop-border", "--steps", "--tile"],
    "train": ["--dump-pairs"],
}
CASES = [(command, option) for command, options in WHOLE.items() for option in options]
SIGNED = ("--seed", "--best")


@pytest.mark.parametrize(("command", "option"), CASES)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[:12])
def test_what_is_no_whole_number_is_refused(command, option, text, capsys):
    if option in SIGNED and len(text) == 11:
        pytest.skip("a seed has 64 bits")
    with pytest.raises(SystemExit):
        PARSERS[command]().parse_args([f"{option}={text}"])
    error = capsys.readouterr().err
    limits = rf"argument (-\w, )?{option}: expected a whole number from -?\d+ to \d+, got '"
    assert re.search(limits, error), error
    assert error.count("\n") == 1 and len(error) < 300


def test_limits_belong_to_the_numbers():
    assert [whole_between(text, -2, 12) for text in ("-2", "-0", "007"[2:], "12")] == [-2, 0, 7, 12]
    assert integer(str(2**63 - 1)) == 2**63 - 1
    for text in ("-3", "13", "99"):
        with pytest.raises(argparse.ArgumentTypeError, match="from -2 to 12, got"):
            whole_between(text, -2, 12)
    with pytest.raises(argparse.ArgumentTypeError, match=f"to {2**63 - 1}, got"):
        integer(str(2**63))


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "1e999", "1_0", "٣", "\uff13.5", "9" * 5000]
)
def test_what_is_no_finite_number_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^expected a number, got '.{0,60}'$"):
        finite_number(text)
