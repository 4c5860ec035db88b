"""`tiled_infer.py` as a photographer meets it: files in, files out, exit codes, one-line errors."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_cases import make
from PIL import Image

from refusion import cli
from refusion.images.io import read_image

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".webp": "WEBP"}


@pytest.fixture
def restore(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command in an empty folder; weights come along unless given."""
    monkeypatch.chdir(tmp_path)

    def run(*argv, weights=True):
        own = ["--weights", tiny_checkpoint()] if weights else []
        return cli.restore_main([str(word) for word in (*argv, *own)])

    return run


@pytest.mark.parametrize("suffix", FORMATS)
def test_format_and_size_are_kept_and_the_photo_is_restored(restore, capsys, suffix):
    photo = make(f"in/photo{suffix}")
    assert restore("--input", photo) == 0
    result = Path("results", photo.name)
    assert capsys.readouterr().out.rstrip().endswith(f" s: {result}")
    with Image.open(result) as image:
        assert (image.format, image.size) == (FORMATS[suffix], (14, 20))
    change = read_image(result).image - read_image(photo).image
    assert float(change.abs().mean()) > 0.02


def test_same_command_same_bytes_whatever_the_tile_and_the_company(restore):
    make("in/a.png")
    make("in/z/b.png", 33, 40, seed=1)
    make("in/z/c.png", 9, 9, seed=2)
    assert restore("--input", "in", "--output", "one", "--precision", "fp32") == 0
    assert restore("--input", "in", "--output", "two", "--precision", "fp32", "--tile", 16) == 0
    assert restore("--input", "in/z/b.png", "--output", "b.png", "--precision", "fp32") == 0
    assert restore("--input", "in/z/b.png", "--output", "s.png", "--seed", 1, "--steps", 5) == 0
    files = sorted(path.relative_to("one") for path in Path("one").rglob("*.png"))
    assert [str(file) for file in files] == ["a.png", "z/b.png", "z/c.png"]
    for file in files:
        one, two = (read_image(Path(folder, file)).image for folder in ("one", "two"))
        assert float((one - two).abs().max()) <= 1 / 255 + 1e-6
    assert Path("b.png").read_bytes() == Path("one/z/b.png").read_bytes()
    assert Path("s.png").read_bytes() != Path("b.png").read_bytes()


@pytest.mark.parametrize("sampler", ["mean", "sde-data-2@log_snr", "eta0.3-data-3@karras"])
def test_any_sampler_restores(restore, sampler):
    photo = make("a.png")
    walked = ("--sampler", sampler, "--steps", 4)
    assert restore("--input", photo, "--output", "b.png", *walked) == 0
    assert restore("--input", photo, "--output", "c.png", "--steps", 4) == 0
    assert Path("b.png").read_bytes() != Path("c.png").read_bytes()


@pytest.mark.parametrize("steps", [None, 1, 4])
def test_the_number_of_steps_chooses_among_the_weights_of_a_task(
    restore, monkeypatch, tiny_checkpoint, steps
):
    asked = []

    def find(task, folder=None, steps=None):
        asked.append((task, steps))
        return tiny_checkpoint()

    monkeypatch.setattr("refusion.weights.find_weights", find)
    walked = () if steps is None else ("--steps", steps)
    assert restore("--input", make("a.png"), "--task", "dehaze", *walked, weights=False) == 0
    assert asked == [("dehaze", steps)]


def test_some_failed_is_1_and_the_rest_is_done(restore, capsys):
    make("in/good.png")
    Path("in/bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert restore("--input", "in", "gone.png", "--output", "out") == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:3] for line in errors[:2]] == [
        ["refusion", "failed", "in/bad.jpg"],
        ["refusion", "failed", "gone.png"],
    ]
    assert errors[2:] == ["refusion: 2 of 3 photos failed"]
    assert [path.name for path in Path("out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--input", "a.png", "--sampler", "posteriour"], "did you mean 'posterior'"),
        (["--input", "a.png", "--sampler", "mean@karas"], "did you mean 'karras'"),
        (["--input", "a.png", "--sampler", "eta2-data-1"], "eta: expected 0 (ODE) to 1 (SDE)"),
        (["--input", "a.png", "--device", "cuda9x"], "unknown device"),
        (["--input", "a.png", "--precision", "int8"], "unknown precision"),
        (["--input", "a.png", "--device", "cpu", "--precision", "fp16"], "needs a CUDA GPU"),
        (["--input", "a.png", "--steps", "101"], "1..100"),
        (["--input", "a.png", "--output", "."], "would overwrite the input"),
        (["--input", "empty"], "no images in empty"),
    ],
)
def test_wrong_usage_is_2_and_one_line(restore, capsys, argv, message):
    make("a.png")
    Path("empty").mkdir()
    assert restore(*argv) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert error.startswith("refusion: error: ")
    assert message in error
    assert all(line.startswith("refusion: warning: ") for line in warnings)
    assert not list(Path().rglob("results/*.png"))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--input"],
        ["--input", "a.png", "--tile", "0"],
        ["--input", "a", "--steps", "x"],
        ["--input", "a", "--noise-level", "nan"],
        ["--input", "a", "--focus", "far"],
    ],
)
def test_argparse_errors_are_2(restore, capsys, argv):
    with pytest.raises(SystemExit) as exit_info:
        restore(*argv)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("refusion restore: error: ") and error.count("\n") == 1


def test_missing_weights_are_2(restore, capsys):
    make("a.png")
    assert restore("--input", "a.png", "--task", "no-such-task", weights=False) == 2
    assert restore("--input", "a.png", "--weights", "gone.safetensors", weights=False) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "no default weights for task 'no-such-task'" in first
    assert second == "refusion: error: gone.safetensors: no such weights file"


def test_weights_of_another_task_warn(restore, capsys):
    make("a.png")
    assert restore("--input", "a.png", "--task", "derain", "--output", "b.png") == 0
    assert "trained for the task 'dehaze', not 'derain'" in capsys.readouterr().err
    assert restore("--input", "a.png", "--task", "dehaze", "--output", "b.png") == 0
    assert capsys.readouterr().err == ""


def test_compare_quiet_max_pixels_and_no_recursive(restore, capsys):
    make("in/a.png")
    make("in/sub/b.png")
    assert restore("--input", "in", "--compare", "--quiet", "--no-recursive") == 0
    assert capsys.readouterr() == ("", "")
    found = sorted(path.name for path in Path("results").rglob("*.*"))
    assert found == ["a.png", "a_compare.png"]
    assert read_image("results/a_compare.png").image.shape == (3, 20, 28)
    assert restore("--input", "in/a.png", "--max-pixels", "100", "--quiet") == 1
    assert capsys.readouterr().err.startswith("refusion: failed: in/a.png: ")


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom refusion.cli import restore_main\n"
        "try: restore_main(['--help-all'])\n"
        "except SystemExit: sys.exit(int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = ("--input", "--output", "--task", "--weights", "--tile", "--compare", "--quiet")
    assert all(word in done.stdout for word in words)
