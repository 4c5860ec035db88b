"""Both datasets: streams keyed by (seed, index), stable splits, aligned pairs, clear errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from refusion.data import DATASETS, PairedFolder, SyntheticHaze
from refusion.data.stream import keyed_generator, photo_at
from refusion.errors import ConfigError


def save_photo(path: Path, width: int = 96, height: int = 64) -> None:
    """Smooth colours; no two names alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    phase = sum(path.name.encode())
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [np.sin(x * (c + 1) + y + phase) for c in range(3)]
    Image.fromarray((127 + 120 * np.stack(waves, -1)).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        save_photo(tmp_path / "photos" / f"photo{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def haze(photos: Path):
    """Maker of SyntheticHaze over the photos."""

    def make(**options: object) -> SyntheticHaze:
        return SyntheticHaze(
            **{"folders": [photos], "patch": 32, "cache": photos.parent / "c", **options}
        )

    return make


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


def assert_same(one: dict, other: dict) -> None:
    assert torch.equal(one["lq"], other["lq"])
    assert torch.equal(one["gt"], other["gt"])


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
    dataset = haze(haze={**still, "clean_share": 0.0, "linear_share": 0.0})
    for index in range(12):
        item = dataset[index]
        error = (item["lq"] - item["gt"]).abs().mean()
        mirrored = (item["lq"].flip(-1) - item["gt"]).abs().mean()
        assert error < 0.04
        assert error < 0.5 * mirrored


def test_mirrored_patches_carry_their_haze_along(haze) -> None:
    """The same sample with and without `flip` is the same pair, or its mirror image."""
    still = {"noise_share": 0.0, "jpeg_share": 0.0, "mean_transmission": [0.5, 0.5]}
    mirrored, upright = haze(haze=still), haze(haze=still, flip=False)
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
        ({"haze": {"airlite": [0.5, 1.0]}}, "did you mean 'airlight'"),
        ({"haze": {"airlight": [1.0, 0.5]}}, "low <= high"),
        ({"folders": ["nowhere"]}, "nowhere"),
    ],
)
def test_haze_errors(haze, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        haze(**options)


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


def test_haze_of_the_defaults_covers_thin_and_dense(haze) -> None:
    """Correlation of hazy and clean falls with density; the defaults must give both kinds."""
    dataset, contrast = haze(), []
    for index in range(60):
        item = dataset[index]
        contrast.append(float(item["lq"].std() / item["gt"].std().clamp_min(1e-3)))
    assert min(contrast) < 0.45
    assert max(contrast) > 0.85
    assert math.isfinite(sum(contrast))
