"""Synthetic pairs: streams keyed by (seed, index), stable splits, aligned patches, clear errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import assert_same, save_photo
from PIL import Image
from torch.utils.data import DataLoader

from refusion.config.parser import Component
from refusion.data import DATASETS, SyntheticPairs, synthetic_pairs
from refusion.data.stream import photo_at
from refusion.errors import ConfigError
from refusion.images.cache import to_tensor
from refusion.randomness import keyed_generator

RECORDED = [0.6265, 0.60261, 0.47125, 0.49893, 0.5671, 0.70332]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        save_photo(tmp_path / "photos" / f"photo{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def haze(photos: Path):
    """Maker of SyntheticPairs over the photos, under haze of the given settings."""

    def make(settings: dict | None = None, **options: object) -> SyntheticPairs:
        defaults = {"folders": [photos], "patch": 32, "cache": photos.parent / "c"}
        degradation = Component("Haze", settings or {})
        return SyntheticPairs(**{**defaults, "degradation": degradation, **options})

    return make


def test_table_names_are_class_names() -> None:
    assert all(name == dataset.__name__ for name, dataset in DATASETS.items())


def test_items_do_not_depend_on_the_order_of_access(haze) -> None:
    first, second = haze(seed=3), haze(seed=3)
    forwards = [first[index] for index in range(15)]
    for index in (14, 2, 7, 0):
        assert_same(forwards[index], second[index])
    assert_same(first[10**9], second[10**9])


def test_seed_and_index_matter(haze) -> None:
    assert not torch.equal(haze(seed=0)[0]["lq"], haze(seed=1)[0]["lq"])
    assert not torch.equal(haze()[0]["lq"], haze()[12]["lq"])


def test_global_random_state_is_neither_used_nor_touched(haze) -> None:
    torch.manual_seed(1)
    one, state = haze()[4], torch.get_rng_state()
    torch.manual_seed(2)
    assert_same(one, haze()[4])
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_workers_change_nothing(haze) -> None:
    dataset = haze()
    loader = DataLoader(dataset, batch_size=3, sampler=range(5, 11), num_workers=2)
    batches = torch.cat([batch["lq"] for batch in loader])
    assert torch.equal(batches, torch.stack([dataset[index]["lq"] for index in range(5, 11)]))


def test_an_epoch_shows_every_photo_once_in_fresh_order() -> None:
    epochs = [[photo_at(7, e * 20 + i, 20) for i in range(20)] for e in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [photo_at(8, i, 20) for i in range(20)]


def test_keyed_generators_differ_by_key() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (0, 0, 0, 5), (10, 0), (0, 10)]
    draws = {torch.rand((), generator=keyed_generator(*key)).item() for key in keys}
    assert len(draws) == len(keys)


def test_patches_are_float_images_with_unchanged_ground_truth(haze) -> None:
    for index in range(12):
        item = haze()[index]
        assert item["lq"].shape == item["gt"].shape == (3, 32, 32)
        assert item["lq"].dtype == item["gt"].dtype == torch.float32
        assert min(item["lq"].min(), item["gt"].min()) >= 0
        assert max(item["lq"].max(), item["gt"].max()) <= 1


def test_lq_and_gt_are_aligned(haze) -> None:
    """Barely any haze, no camera: the pair differs by little, so no shift, flip or rescale."""
    still = {"mean_transmission": [0.97, 0.97], "min_transmission": 0.9, "noise_share": 0.0}
    still |= {"exposure": 0.0, "colour": 0.0, "jpeg_share": 0.0, "soften_share": 0.0}
    dataset = haze({**still, "clean_share": 0.0, "linear_share": 0.0})
    for index in range(12):
        item = dataset[index]
        error = (item["lq"] - item["gt"]).abs().mean()
        mirrored = (item["lq"].flip(-1) - item["gt"]).abs().mean()
        assert error < 0.04
        assert error < 0.5 * mirrored


def test_mirrored_patches_carry_their_haze_along(haze) -> None:
    """The same sample with and without `flip` is the same pair, or its mirror image."""
    still = {"noise_share": 0.0, "jpeg_share": 0.0, "mean_transmission": [0.5, 0.5]}
    mirrored, upright = haze(still), haze(still, flip=False)
    turned = 0
    for index in range(16):
        one, other = mirrored[index], upright[index]
        if not torch.equal(one["gt"], other["gt"]):
            one, turned = {key: image.flip(-1) for key, image in one.items()}, turned + 1
        assert torch.equal(one["gt"], other["gt"])
        torch.testing.assert_close(one["lq"], other["lq"], atol=1.01 / 255, rtol=0)
    assert 2 <= turned <= 14


def test_patch_spans_the_scale_range(haze, photos: Path) -> None:
    """A patch of the whole short side of a ramp has its whole range of values."""
    ramp = np.repeat(np.linspace(0, 255, 64)[:, None, None], 64, 1).repeat(3, 2)
    Image.fromarray(ramp.astype(np.uint8)).save(photos.parent / "ramp.png")
    (photos.parent / "ramps").mkdir()
    (photos.parent / "ramp.png").rename(photos.parent / "ramps" / "ramp.png")
    for part in (0.5, 1.0):
        dataset = haze(folders=[photos.parent / "ramps"], scale_range=(part, part))
        span = [float(dataset[i]["gt"].max() - dataset[i]["gt"].min()) for i in range(6)]
        assert all(abs(value - part) < 0.05 for value in span)


def test_split_is_disjoint_covers_and_is_stable(haze, photos: Path) -> None:
    train, held_out = haze(split="train", held_out=3), haze(split="held_out", held_out=3)
    assert set(train.photos).isdisjoint(held_out.photos)
    assert set(train.photos) | set(held_out.photos) == set(haze().photos)
    for number in range(20):
        save_photo(photos / f"added{number}.png")
    assert set(train.photos) < set(haze(split="train", held_out=3).photos)
    assert set(held_out.photos) <= set(haze(split="held_out", held_out=3).photos)


def test_whole_photos_are_finite_named_and_keep_their_haze(haze, photos: Path) -> None:
    dataset = haze(whole=True, max_side=48)
    assert len(dataset) == len(list(dataset)) == 12
    before = {item["name"]: item for item in dataset}
    assert before["photo3"]["lq"].shape == (3, 32, 48)
    save_photo(photos / "another.png")
    after = {item["name"]: item for item in haze(whole=True, max_side=48)}
    for name in before:
        assert_same(before[name], after[name])


def test_endless_and_finite_lengths(haze) -> None:
    with pytest.raises(TypeError, match="no length"):
        len(haze())
    assert len(haze(length=5)) == 5
    for dataset, index in ((haze(length=5), 5), (haze(), -1)):
        with pytest.raises(IndexError):
            dataset[index]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "heldout"}, "did you mean 'held_out'"),
        ({"split": "held_out", "held_out": 10**6}, "is empty"),
        ({"held_out": 1}, "held_out"),
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"patch": 4}, "patch"),
        ({"seed": -1}, "seed"),
        ({"length": 0}, "length"),
        ({"settings": {"airlite": [0.5, 1.0]}}, "degradation.airlite.*did you mean 'airlight'"),
        ({"settings": {"airlight": [1.0, 0.5]}}, "degradation: .*airlight.*low <= high"),
        ({"folders": ["nowhere"]}, "nowhere"),
        ({"scale_range": None, "patch": 65}, "12 samples.*96x64.*smaller than the patch of 65"),
        ({"degradation": Component("Haez")}, "did you mean 'Haze'"),
        ({"degradation": Component("Downsample", {"factor": 3})}, "patch.*multiple of 3"),
    ],
)
def test_haze_errors(haze, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        haze(**options)


def test_haze_of_the_defaults_covers_thin_and_dense(haze) -> None:
    """Correlation of hazy and clean falls with density; the defaults must give both kinds."""
    dataset, contrast = haze(), []
    for index in range(60):
        item = dataset[index]
        contrast.append(float(item["lq"].std() / item["gt"].std().clamp_min(1e-3)))
    assert min(contrast) < 0.45
    assert max(contrast) > 0.85
    assert math.isfinite(sum(contrast))


def test_haze_recipe_is_reproduced(haze) -> None:
    """Means of `lq` recorded when the shipped weights were trained: their recipe draws the same."""
    means = [float(haze()[index]["lq"].mean()) for index in range(6)]
    assert means == pytest.approx(RECORDED, abs=2e-4)


def test_frames_tell_where_turned_patches_lie(haze) -> None:
    """The frame's part of the thumbnail, here the photo itself, is the patch, however it lies."""
    dataset, upright = (haze(scale_range=None, rotate=rotate) for rotate in (True, False))
    dataset.degradation = lambda clean, _, frame: {"lq": frame.crop(frame.thumbnail, (32, 32))}
    turned = 0
    for index in range(16):
        item = dataset[index]
        torch.testing.assert_close(item["lq"], item["gt"], atol=1e-4, rtol=0)
        turned += not torch.equal(item["gt"], upright[index]["gt"])
    assert turned > 6


def test_native_patches_are_the_photos_own_pixels(haze, tmp_path: Path) -> None:
    pixels = save_photo(tmp_path / "native" / "a.png", 90, 70).astype(int)
    options = {"folders": [tmp_path / "native"], "scale_range": None, "flip": False}
    dataset = haze(**options)
    for index in range(6):
        gt = (dataset[index]["gt"] * 255).round().int().permute(1, 2, 0).numpy()
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (32, 32, 3))[:, :, 0]
        assert (windows == gt).all((2, 3, 4)).any()


def test_native_patches_read_only_themselves(haze, tmp_path: Path, monkeypatch) -> None:
    """What `to_tensor` converts is a view of the memory map, never the photo."""
    save_photo(tmp_path / "native" / "a.png", 500, 400)
    seen = []

    def watch(pixels: np.ndarray) -> torch.Tensor:
        seen.append(pixels)
        return to_tensor(pixels)

    monkeypatch.setattr(synthetic_pairs, "to_tensor", watch)
    haze(folders=[tmp_path / "native"], scale_range=None)[0]
    assert sorted(view.shape[1] for view in seen) == [32, 192]
    assert all(isinstance(view, np.memmap) for view in seen)


def test_super_resolution_pairs(haze) -> None:
    down = Component("Downsample", {"factor": 3})
    item = haze(degradation=down, patch=48, scale_range=None, rotate=True)[0]
    assert (item["lq"].shape, item["gt"].shape) == ((3, 16, 16), (3, 48, 48))
    whole = haze(degradation=down, patch=48, whole=True)[0]
    assert (whole["lq"].shape, whole["gt"].shape) == ((3, 21, 32), (3, 63, 96))


def test_16_bit_photos_give_16_bit_truth(haze, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((64, 64), 12345, np.uint16)).save(tmp_path / "deep" / "a.png")
    for scale_range in (None, (0.9, 0.9)):
        gt = haze(folders=[tmp_path / "deep"], scale_range=scale_range)[0]["gt"]
        torch.testing.assert_close(gt, torch.full((3, 32, 32), 12345 / 65535), atol=1e-6, rtol=0)
