"""The benchmark of steps: what it tabulates, what it chooses, that it continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.steps import CALLS, Cell, choose, main, markdown_table
from refusion.errors import ConfigError


def cell(sampler, calls, psnr):
    return Cell(sampler, calls, None if psnr is None else {"psnr": psnr, "ssim": psnr / 100})


CELLS = [
    cell("a", 1, 20.0), cell("a", 5, 24.85), cell("a", 10, 24.95), cell("a", 100, 25.0),
    cell("b", 1, 19.0), cell("b", 5, 24.84), cell("b", 10, 24.93), cell("b", 100, None),
]  # fmt: skip


def test_the_default_has_the_fewest_calls_within_a_tenth_of_the_best():
    assert choose(CELLS) == CELLS[2]
    assert choose(CELLS, within=0.2) == CELLS[1]
    assert choose(CELLS, within=0) == CELLS[3]
    assert choose([cell("a", 1, None), *CELLS]) == CELLS[2]
    with pytest.raises(ConfigError, match="no sampler gave a result"):
        choose([cell("a", 1, None)])


def test_the_table_has_a_row_per_sampler_and_the_best_of_each_column_bold():
    lines = markdown_table(CELLS, "psnr").splitlines()
    assert lines[0] == "| PSNR by calls | 1 | 5 | 10 | 100 |"
    assert lines[2] == "| `a` | **20.00** | **24.85** | **24.95** | **25.00** |"
    assert lines[3] == "| `b` | 19.00 | 24.84 | 24.93 | - |"
    assert "**0.2485**" in markdown_table(CELLS, "ssim")


def test_the_issue_decides_the_numbers_of_calls():
    assert CALLS == (1, 2, 3, 5, 10, 20, 50, 100)


@pytest.fixture
def argv(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part, shade in (("lq", 150), ("gt", 90)):
        (tmp_path / part).mkdir()
        for number in range(2):
            image = Image.new("RGB", (20, 16), (shade, shade + 20 * number, 100))
            image.save(tmp_path / part / f"{number}.png")
    own = ["--weights", str(tiny_checkpoint("pixel")), "--lq", "lq", "--gt", "gt"]
    return [*own, "--out", "out", "--samplers", "posterior", "mean@log_snr", "--calls", "1", "3"]


def test_it_measures_draws_and_continues(argv, capsys, monkeypatch):
    main(argv)
    first = capsys.readouterr().out
    assert "| `mean@log_snr` |" in first and "\ndefault: " in first
    with Image.open("out/steps_dehaze.png") as image:
        assert image.format == "PNG"
    kept = json.loads(Path("runs/steps/steps_dehaze.json").read_text("utf-8"))
    assert [(row["sampler"], row["calls"]) for row in kept["cells"]] == [
        ("posterior", 1), ("mean@log_snr", 1), ("posterior", 3), ("mean@log_snr", 3)
    ]  # fmt: skip
    # In one call all are the estimate at T; the numbers are those of `evaluate`.
    assert kept["cells"][0]["scores"]["psnr"] == kept["cells"][1]["scores"]["psnr"]

    def fail(*args, **options):
        raise AssertionError("measured again")

    monkeypatch.setattr("benchmarks.steps.evaluate", fail)
    main(argv)
    assert capsys.readouterr().out == first
    with pytest.raises(ConfigError, match="measured with other settings"):
        main([*argv, "--seed", "4"])


def test_what_cannot_be_walked_is_a_dash(argv, capsys):
    main([*argv, "--calls", "1", "101"])
    assert "| `posterior` | **" in (out := capsys.readouterr().out)
    assert " | - |" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--samplers", "mean@karas"], "unknown grid 'karas'"),
        (["--samplers", "posteriour"], "did you mean 'posterior'"),
    ],
)
def test_wrong_names_are_refused_before_any_work(argv, change, message):
    with pytest.raises(ConfigError, match=message):
        main([*argv, *change])
    with pytest.raises(ConfigError, match="give all three"):
        main(["--weights", "dehaze"])
