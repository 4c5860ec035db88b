"""Names, format and quality of the results, and results that exist."""

import io
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from cli_cases import make
from PIL import Image

from refusion import cli
from refusion.cli.options.results import warn_of_uncertainty
from refusion.images.io import read_image, write_image


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = str(tiny_checkpoint())
    own = ["--weights", weights, "--strength", "0", "--quiet"]
    return lambda *argv: cli.restore_main([*map(str, argv), *own])


@pytest.mark.parametrize(
    ("name", "suffix", "kind"),
    [
        ("jpeg", ".jpg", "JPEG"),
        ("png", ".png", "PNG"),
        ("tiff", ".tif", "TIFF"),
        ("webp", ".webp", "WEBP"),
    ],
)
def test_a_folder_gets_the_chosen_format(restore, name, suffix, kind):
    make("in/a.png")
    make("in/sub/b.jpg")
    assert restore("in", "--format", name) == 0
    for stem in ("a", "sub/b"):
        with Image.open(f"results/{stem}{suffix}") as image:
            assert image.format == kind


def test_the_suffix_ends_the_names_of_results_and_maps(restore):
    make("in/a.png")
    assert restore("in/a.png", "--suffix=-clear", "--output", ".", "--compare") == 0
    assert sorted(path.name for path in Path().glob("*.png")) == [
        "a-clear.png",
        "a-clear_compare.png",
    ]


def test_two_photos_that_become_one_file_are_refused(restore, capsys):
    make("in/a.png")
    make("in/a.jpg")
    assert restore("in", "--format", "png") == 2
    assert "would both become 'results/a.png'" in capsys.readouterr().err


def test_a_format_may_not_overwrite_another_photo(restore, capsys):
    make("in/a.png")
    make("in/a.jpg")
    assert restore("in/a.png", "in/a.jpg", "--output", "in", "--format", "jpeg") == 2
    assert "would overwrite the input" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_quality_of_jpeg_and_webp(restore, suffix):
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    image.save("a.png")
    sizes = []
    for quality in (30, 95):
        assert restore("a.png", "--quality", quality, "--output", f"{quality}{suffix}") == 0
        sizes.append(Path(f"{quality}{suffix}").stat().st_size)
    assert (sizes[0] < 0.6 * sizes[1]) == (suffix != ".png")
    if suffix == ".jpg":
        expected = io.BytesIO()
        image.save(expected, "JPEG", quality=30, subsampling=2)
        with Image.open(expected) as other, Image.open("30.jpg") as ours:
            assert ours.quantization == other.quantization


def test_a_jpeg_keeps_its_tables_without_quality(tmp_path):
    photo = make(tmp_path / "a.jpg")
    write_image(tmp_path / "b.jpg", read_image(photo).image, read_image(photo))
    with Image.open(photo) as before, Image.open(tmp_path / "b.jpg") as after:
        assert before.quantization == after.quantization


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_a_terminal_is_asked_before_results_are_replaced(
    restore, monkeypatch, capsys, answer, code
):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    make("a.png")
    Path("results").mkdir()
    old = Path("results/a.png")
    old.write_bytes(b"old")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert restore("a.png", "--overwrite", "ask") == code
    assert "results/a.png exists" in capsys.readouterr().err
    assert (old.read_bytes() == b"old") == (code == 2)


def test_without_a_terminal_nothing_is_replaced(restore, monkeypatch, capsys):
    make("a.png")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert restore("a.png", "--overwrite", "ask") == 0  # nothing exists
    assert restore("a.png", "--overwrite", "ask") == 2
    assert "no terminal to ask in" in capsys.readouterr().err


def test_never_keeps_what_exists(restore):
    make("a.png")
    Path("results").mkdir()
    Path("results/a.png").write_bytes(b"old")
    assert restore("a.png", "--overwrite", "never") == 0
    assert Path("results/a.png").read_bytes() == b"old"
    assert restore("a.png") == 0
    assert Path("results/a.png").read_bytes() != b"old"


@pytest.mark.parametrize(
    "argv",
    [
        ["--quality", "0"],
        ["--quality", "101"],
        ["--format", "gif"],
        ["--suffix", "a/b"],
        ["--suffix", "x" * 101],
    ],
)
def test_wrong_values_are_usage_errors(restore, argv):
    with pytest.raises(SystemExit) as exit_info:
        restore("a.png", *argv)
    assert exit_info.value.code == 2


@pytest.mark.parametrize("option", [["--format", "png"], ["--suffix=-x"]])
def test_a_named_file_has_no_other_name(restore, capsys, option):
    make("a.png")
    assert restore("a.png", "--output", "b.png", *option) == 2
    assert "'b.png' names the file; leave out --format and --suffix" in capsys.readouterr().err


def test_results_beside_their_photos_are_not_restored_again(restore):
    make("in/a.png")
    make("in/b-c.png")  # the result of no photo
    for _ in range(2):
        assert restore("in", "--output", "in", "--suffix=-c") == 0
        assert sorted(path.name for path in Path("in").iterdir()) == [
            "a-c.png",
            "a.png",
            "b-c-c.png",
            "b-c.png",
        ]


def test_a_question_shows_no_escape_of_a_name(restore, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    make("results/\x1b[31mred.png")
    make("\x1b[31mred.png")
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert restore("\x1b[31mred.png", "--overwrite", "ask") == 2
    question, error = capsys.readouterr().err.splitlines()
    assert question.endswith("Overwrite? [y/N] ")
    assert "\x1b" not in question + error


def test_photos_may_stand_on_both_sides_of_an_option(restore):
    make("a.png")
    make("b.png")
    assert restore("a.png", "--seed", "3", "b.png") == 0
    assert sorted(path.name for path in Path("results").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([""], "a photo has an empty name"),
        (["a.png", "--skip-existing", "--overwrite", "ask"], "contradicts --overwrite ask"),
    ],
)
def test_contradictions_are_refused(restore, capsys, argv, text):
    make("a.png")
    with pytest.raises(SystemExit) as exit_info:
        restore(*argv)
    assert exit_info.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "dehaze"}, "with the error is 0.04"),
        ({"task": None}, "where 'dehaze' is wrong"),
        ({"task": "bokeh"}, "was not measured"),
        ({"task": "denoise"}, None),
        ({"task": "dehaze", "weights": Path("own.safetensors")}, None),
        ({"task": "dehaze", "uncertainty": None}, None),
        ({"task": "dehaze", "method": "ddrm"}, None),
    ],
)
def test_maps_that_do_not_show_the_errors_are_warned_of(caplog, options, words):
    given = {"uncertainty": "map.png", "weights": None, "method": "refusion"}
    given |= options
    warn_of_uncertainty(Namespace(**given))
    assert bool(caplog.text) == (words is not None)
    assert words is None or words in caplog.text
