"""Pairs from two folders: partners, aligned crops of equal and of different sizes, clear errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import address_photo, assert_same, save_photo
from PIL import Image

from refusion.data import PairedFolder
from refusion.errors import ConfigError


@pytest.fixture
def pairs(tmp_path: Path):
    """Maker of PairedFolder whose clean photo is the hazy one plus 8 levels."""
    for number in range(5):
        save_photo(tmp_path / "lq" / f"{number}_hazy.png")
        pixels = np.asarray(Image.open(tmp_path / "lq" / f"{number}_hazy.png"))
        (tmp_path / "gt").mkdir(exist_ok=True)
        Image.fromarray(pixels + np.uint8(8)).save(tmp_path / "gt" / f"{number}_GT.png")

    def make(**options: object) -> PairedFolder:
        folders = {"lq": tmp_path / "lq", "gt": tmp_path / "gt", "cache": tmp_path / "cache"}
        suffixes = {"lq_suffix": "_hazy", "gt_suffix": "_GT"}
        return PairedFolder(**{**folders, **suffixes, **options})

    make.root = tmp_path
    return make


def test_whole_pairs_match_by_name(pairs) -> None:
    dataset = pairs()
    assert [item["name"] for item in dataset] == ["0", "1", "2", "3", "4"]
    for item in dataset:
        torch.testing.assert_close(item["gt"] - item["lq"], torch.full((3, 64, 96), 8 / 255))


def test_crops_of_pairs_are_aligned_and_keyed(pairs) -> None:
    one, other = pairs(patch=24), pairs(patch=24)
    items = [one[index] for index in range(20)]
    for index in (19, 3, 11):
        assert_same(items[index], other[index])
    for item in items:
        torch.testing.assert_close(item["gt"] - item["lq"], torch.full((3, 24, 24), 8 / 255))
    assert len({item["lq"].sum().item() for item in items}) == 20


def test_whole_pairs_shrink_to_max_side(pairs) -> None:
    assert pairs(max_side=48)[0]["lq"].shape == (3, 32, 48)


def test_whole_photos_need_no_ground_truth(pairs) -> None:
    measured, alone = pairs()[2], pairs(gt=None)[2]
    del measured["gt"]
    assert_same(alone, measured)
    assert pairs(gt=None, scale=4, max_side=48)[0]["lq"].shape == (3, 32, 48)
    with pytest.raises(ConfigError, match=r"gt: no ground truth, which crops \(patch: 24\) need"):
        pairs(gt=None, patch=24)


def test_same_names_in_sub_folders_are_kept_apart(tmp_path: Path) -> None:
    for role in ("lq", "gt"):
        for scene in ("a", "b"):
            save_photo(tmp_path / role / scene / "0.png")
    dataset = PairedFolder(lq=tmp_path / "lq", gt=tmp_path / "gt", cache=tmp_path / "cache")
    assert [item["name"] for item in dataset] == ["a/0", "b/0"]


def test_pair_errors_name_the_files(pairs) -> None:
    with pytest.raises(ConfigError, match="smaller than the patch"):
        pairs(patch=65)
    with pytest.raises(ConfigError, match="does not end in lq_suffix"):
        pairs(lq_suffix="_fog")
    save_photo(pairs.root / "gt" / "9_GT.png")
    with pytest.raises(ConfigError, match=r"1 photos have no partner.*9_GT"):
        pairs()
    save_photo(pairs.root / "lq" / "9_hazy.png", width=95)
    with pytest.raises(ConfigError, match=r"95x64.*96x64"):
        pairs()
    with pytest.raises(ConfigError, match="does not exist"):
        pairs(gt=pairs.root / "none")


def test_pairs_that_do_not_fit_are_listed_with_the_expected_size(pairs) -> None:
    with pytest.raises(ConfigError, match=r"5 samples.*96x64.*96x64, expected 192x128"):
        pairs(scale=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 0}, "scale"),
        ({"scale": 4, "patch": 30}, "patch: expected a multiple of the scale 4"),
        ({"swap": 1.5}, "swap"),
        ({"scale": 2, "swap": 0.5}, "cannot be used with swap or max_side"),
        ({"scale": 2, "max_side": 64}, "cannot be used with swap or max_side"),
    ],
)
def test_option_errors(pairs, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pairs(**options)


def test_swap_exchanges_whole_crops(pairs) -> None:
    """The clean photo is the lighter one by eight levels; the sign of the difference tells."""
    straight, mixed = pairs(patch=24), pairs(patch=24, swap=0.5)
    swapped = 0
    for index in range(40):
        one, other = straight[index], mixed[index]
        if not torch.equal(one["lq"], other["lq"]):
            other, swapped = {"lq": other["gt"], "gt": other["lq"]}, swapped + 1
        assert_same(one, other)
    assert 10 <= swapped <= 30
    always = pairs(patch=24, swap=1.0)[3]
    assert_same(straight[3], {"lq": always["gt"], "gt": always["lq"]})


def test_rotation_turns_both_alike(pairs) -> None:
    items = [pairs(patch=24, rotate=True)[index] for index in range(12)]
    for item in items:
        torch.testing.assert_close(item["gt"] - item["lq"], torch.full((3, 24, 24), 8 / 255))
    slopes = [float(item["lq"].diff(dim=1).abs().mean()) for item in items]
    upright = [
        float(item["lq"].diff(dim=1).abs().mean())
        for item in map(pairs(patch=24).sample, range(12))
    ]
    assert slopes != upright


def test_super_resolution_crops_are_aligned(tmp_path: Path) -> None:
    for role, factor in (("lq", 1), ("gt", 4)):
        (tmp_path / role).mkdir()
        for name in ("a", "b"):
            pixels = address_photo(40 * factor, 30 * factor, factor)
            Image.fromarray(pixels).save(tmp_path / role / f"{name}.png")
    folders = {"lq": tmp_path / "lq", "gt": tmp_path / "gt", "cache": tmp_path / "c", "scale": 4}
    whole = PairedFolder(**folders)[0]
    assert (whole["lq"].shape, whole["gt"].shape) == ((3, 30, 40), (3, 120, 160))
    dataset = PairedFolder(**folders, patch=32, rotate=True)
    for index in range(10):
        item = dataset[index]
        assert (item["lq"].shape, item["gt"].shape) == ((3, 8, 8), (3, 32, 32))
        torch.testing.assert_close(
            item["gt"], item["lq"].repeat_interleave(4, 1).repeat_interleave(4, 2)
        )


def test_16_bit_pairs_are_exact(tmp_path: Path) -> None:
    for role in ("lq", "gt"):
        (tmp_path / role).mkdir()
        level = np.full((20, 20), 12345 if role == "lq" else 12346, np.uint16)
        Image.fromarray(level).save(tmp_path / role / "a.png")
    dataset = PairedFolder(lq=tmp_path / "lq", gt=tmp_path / "gt", cache=tmp_path / "c", patch=16)
    item = dataset[0]
    torch.testing.assert_close(
        item["gt"] - item["lq"], torch.full((3, 16, 16), 1 / 65535), rtol=0.01, atol=0
    )


def test_one_folder_is_not_its_own_truth(tmp_path):
    save_photo(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="is the folder lq"):
        PairedFolder(lq=tmp_path, gt=tmp_path / ".", patch=16)
