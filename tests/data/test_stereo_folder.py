"""Stereo pairs: views keep their sides, crops their place, and nothing turns by a quarter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dataset_cases import address_photo, assert_same, save_photo
from PIL import Image

from refusion.data import StereoFolder
from refusion.errors import ConfigError

LEFT, RIGHT = 20, 200  # blue of the two views


def save_view(path: Path, blue: int, width: int = 50, height: int = 40, factor: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = address_photo(width * factor, height * factor, factor)
    pixels[..., 2] = blue
    Image.fromarray(pixels).save(path)


@pytest.fixture
def stereo(tmp_path: Path):
    """Maker of StereoFolder: every pixel tells its place and its view."""
    for number in range(3):
        for view, blue in (("L", LEFT), ("R", RIGHT)):
            save_view(tmp_path / "lq" / f"{number:04}_{view}.png", blue)
            save_view(tmp_path / "gt" / f"{number:04}_{view}.png", blue, factor=4)

    def make(**options: object) -> StereoFolder:
        folders = {"gt": tmp_path / "gt", "lq": tmp_path / "lq", "cache": tmp_path / "cache"}
        return StereoFolder(**{**folders, **options})

    make.root = tmp_path
    return make


def enlarged(image: torch.Tensor) -> torch.Tensor:
    return image.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_whole_pairs_stack_left_before_right(stereo) -> None:
    dataset = stereo()
    assert [item["name"] for item in dataset] == ["0000", "0001", "0002"]
    item = dataset[1]
    assert (item["lq"].shape, item["gt"].shape) == ((6, 40, 50), (6, 160, 200))
    blues = [round(float(item["gt"][channel].mean()) * 255) for channel in (2, 5)]
    assert blues == [LEFT, RIGHT]
    torch.testing.assert_close(item["gt"], enlarged(item["lq"]))


def test_crops_are_aligned_keyed_and_mirrored_only_with_exchange(stereo) -> None:
    dataset, again = stereo(patch=64), stereo(patch=64)
    seen = set()
    for index in range(24):
        item = dataset[index]
        assert (item["lq"].shape, item["gt"].shape) == ((6, 16, 16), (6, 64, 64))
        torch.testing.assert_close(item["gt"], enlarged(item["lq"]))
        red, green, blue = (item["lq"][channel] for channel in (0, 1, 2))
        assert torch.equal(red, item["lq"][3])  # the same place in both views
        assert red.diff(dim=0).abs().max() == 0  # columns stay columns: no quarter turn
        is_mirrored = bool(red[0, 1] < red[0, 0])
        is_exchanged = round(float(blue.mean()) * 255) == RIGHT
        assert is_mirrored == is_exchanged
        seen.add((is_mirrored, bool(green[1, 0] < green[0, 0])))
    assert len(seen) == 4
    for index in (20, 3):
        assert_same(dataset[index], again[index])


def test_without_flip_views_stay(stereo) -> None:
    dataset = stereo(patch=64, flip=False)
    for index in range(8):
        lq = dataset[index]["lq"]
        assert lq[0, 0, 1] > lq[0, 0, 0]
        assert round(float(lq[2].mean()) * 255) == LEFT


@pytest.mark.parametrize("patch", [None, 32])
def test_low_resolution_is_made_where_none_is_given(stereo, patch: int | None) -> None:
    noise = np.random.default_rng(0)
    for path in (stereo.root / "gt").iterdir():  # fine enough to show whether it is filtered
        Image.fromarray(noise.integers(0, 256, (160, 200, 3), np.uint8)).save(path)
    item = stereo(lq=None, patch=patch)[0]
    small = F.interpolate(item["gt"][None], scale_factor=0.25, mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(item["lq"], small.clamp(0, 1), atol=0.51 / 255, rtol=0)
    levels = item["lq"] * 255
    assert (levels.round() - levels).abs().max() < 1e-3


def test_whole_pairs_lose_what_is_beyond_the_scale(tmp_path: Path) -> None:
    for view in "LR":
        save_photo(tmp_path / f"0_{view}.png", 51, 42)
    item = StereoFolder(gt=tmp_path, cache=tmp_path / "cache", scale=4)[0]
    assert (item["lq"].shape, item["gt"].shape) == ((6, 10, 12), (6, 40, 48))


def test_whole_pairs_need_no_ground_truth(stereo) -> None:
    measured, alone = stereo()[2], stereo(gt=None)[2]
    del measured["gt"]
    assert_same(alone, measured)
    with pytest.raises(ConfigError, match=r"gt: no ground truth, which crops \(patch: 32\) need"):
        stereo(gt=None, patch=32)
    with pytest.raises(ConfigError, match="gt: no folder of photos"):
        stereo(gt=None, lq=None)


@pytest.mark.parametrize("patch", [None, 32])
def test_both_resolutions_may_be_one_folder(stereo, patch: int | None) -> None:
    folders = {"lq": stereo.root / "gt", "gt": stereo.root / "gt"}
    item = stereo(**folders, scale=1, patch=patch)[0]
    assert item["lq"].shape == ((6, 32, 32) if patch else (6, 160, 200))
    assert torch.equal(item["lq"], item["gt"])
    with pytest.raises(ConfigError, match="expected 800x640"):
        stereo(**folders)


def test_other_suffixes(tmp_path: Path) -> None:
    for name in ("a.left.png", "a.right.png"):
        save_photo(tmp_path / name)
    options = {"gt": tmp_path, "left_suffix": ".left", "right_suffix": ".right"}
    assert StereoFolder(**options, cache=tmp_path / "cache")[0]["name"] == "a"


def test_errors_name_the_files(stereo) -> None:
    with pytest.raises(ConfigError, match="right_suffix"):
        stereo(left_suffix="_R")
    with pytest.raises(ConfigError, match="multiple of the scale"):
        stereo(patch=30)
    with pytest.raises(ConfigError, match="smaller than the patch"):
        stereo(patch=164)
    (stereo.root / "gt" / "0001_R.png").unlink()
    (stereo.root / "lq" / "0002_L.png").unlink()
    with pytest.raises(ConfigError, match=r"2 photos.*0001_L.*gt, _R.*0002_R.*lq, _L"):
        stereo()
    for name in ("gt/0001_R.png", "lq/0002_L.png"):
        save_view(stereo.root / name, LEFT, 49)
    with pytest.raises(ConfigError, match=r"2 samples.*expected 200x160.*49x40.*50x40"):
        stereo()
    save_photo(stereo.root / "gt" / "0003.png")
    with pytest.raises(ConfigError, match=r"0003.png' does not end in left_suffix"):
        stereo()
