"""The benchmark of shadow removal: the table by calls, photos without shadows, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import DIFFUSION, PIXEL, build

from benchmarks import shadow_sets
from benchmarks.contact_sheet import GAP, SIDE
from refusion.checkpoint import save_checkpoint
from refusion.errors import ConfigError
from refusion.images.io import write_image


class Brighter:
    """A restorer that adds 0.2 per network call."""

    def restore(self, lq, *, steps=None, **options):
        return (lq + 0.2 * (steps or 1)).clamp(0, 1)


class Pairs:
    """Grey photos whose left half is darker by 0.2 than the truth."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        gt = torch.full((3, 40, 80), 0.6)
        lq = gt.clone()
        lq[..., :40] -= 0.2
        return {"lq": lq, "gt": gt, "name": str(index)}


def test_a_row_has_the_scores_by_calls_and_the_change_of_lit_areas():
    cells = shadow_sets.pairs_row(Brighter(), "grey", Pairs(), (1, 2)).strip("| ").split(" | ")
    expected = [-10 * math.log10(error) for error in (0.04 / 2, 0.04 / 2, 0.2 / 2)]
    assert cells[:2] == ["grey", "2"]
    assert float(cells[3]) > expected[0] + 5  # the threshold finds such a shadow
    assert [float(cells[place]) for place in (2, 4, 5)] == pytest.approx(expected, abs=0.01)
    assert float(cells[6]) == pytest.approx(0, abs=0.01)
    assert float(cells[7]) == pytest.approx(51, abs=0.1)


def test_the_line_on_clean_photos_counts_and_caps():
    values = {"a": math.inf, "b": 35.0, "c": 25.0, "d": 80.0}
    expected = "model, 4 photos: mean 45.00 dB, lowest 25.00 (c), 1 below 30 dB, 2 below 40 dB"
    assert shadow_sets.clean_line("model", values) == expected


def test_pairs_need_a_name_and_two_folders():
    with pytest.raises(ConfigError, match="--pairs: expected NAME=SHADOW:CLEAR, got 'a=b'"):
        shadow_sets.folder_pair("a=b")


def photo(seed: int) -> torch.Tensor:
    values = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(seed))
    return (values * 255).round() / 255


def test_the_command_prints_and_writes_pictures(tmp_path: Path, capsys):
    for seed, folder in enumerate(("shadow", "clear", "clean")):
        (tmp_path / folder).mkdir()
        for number in range(2):
            write_image(tmp_path / folder / f"{number}.png", photo(seed + number), None)
    section = PIXEL | {"sees_state": False}
    weights = tmp_path / "model.safetensors"
    tensors = {f"network.{name}": value for name, value in build(section).state_dict().items()}
    save_checkpoint(weights, {"task": "deshadow", "network": section} | DIFFUSION, tensors, {})
    pairs = f"set={tmp_path / 'shadow'}:{tmp_path / 'clear'}"
    given = ["--weights", str(weights), "--pairs", pairs, "--clean", str(tmp_path / "clean")]
    pictures = ["--sheet", str(tmp_path / "sheet.png"), "--below", str(tmp_path / "below.png")]
    shadow_sets.main([*given, *pictures, "--calls", "1", "10", "--device", "cpu"])
    head, _, row, clean, lab = capsys.readouterr().out.splitlines()
    assert "1 call | 10 calls" in head
    cells = row.strip("| ").split(" | ")
    assert cells[4] == cells[5]  # the network does not see the state
    assert clean.startswith(f"{weights}, 2 photos: mean ")
    assert lab.startswith("threshold in Lab, 2 photos: mean ")
    for name, columns in (("sheet", 3), ("below", 4)):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width == columns * (SIDE + GAP)
