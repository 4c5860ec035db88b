"""Several crops of one photo with one scene, and patches from smaller copies of a photo."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_cases import assert_same, save_photo
from PIL import Image

from refusion.config.parser import Component
from refusion.data import SyntheticPairs, synthetic_pairs
from refusion.data.stream import photo_at
from refusion.errors import ConfigError
from refusion.images.cache import PhotoCache
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.draws import TableGenerator
from refusion.synthesis.scenes.frame import PhotoFrame

STILL = {
    "Haze": {"noise_share": 0.0, "jpeg_share": 0.0, "exposure": 0.0, "colour": 0.0},
    "Shadow": {"noise_share": 0.0, "jpeg_share": 0.0, "exposure": 0.0, "colour": 0.0},
}


@pytest.fixture
def pairs(tmp_path: Path):
    """Maker of SyntheticPairs over 5 photos."""
    for number in range(5):
        save_photo(tmp_path / "photos" / f"photo{number}.png")

    def make(kind: str = "Haze", settings: dict | None = None, **options: object):
        defaults = {"folders": [tmp_path / "photos"], "patch": 32, "cache": tmp_path / "c"}
        degradation = Component(kind, settings or {})
        return SyntheticPairs(**{**defaults, "degradation": degradation, **options})

    return make


CHAIN = {"steps": (Component("Haze"), Component("Shadow"), Component("Jpeg"))}
GREY = {"degradation": Component("OneOf", {"choices": CHAIN["steps"]}), "share": 0.5}
ONE_OF = {"choices": CHAIN["steps"], "weights": (1.0, 2.0, 2.0)}


SCENES = ("Haze", "Shadow", "Bokeh", "Rain", "Mask", "MotionBlur", "GaussianBlur")
OTHERS = ("GaussianNoise", "PoissonNoise", "MixedNoise", "Jpeg", "FirstOrder", "SecondOrder")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, {}) for kind in (*SCENES, *OTHERS)),
        ("Chain", CHAIN),
        ("OneOf", ONE_OF),
        ("Greyscale", GREY),
        ("Cropped", {"degradation": Component("Jpeg")}),
    ],
)
def test_samples_of_shared_scenes_do_not_depend_on_the_order(pairs, kind, settings) -> None:
    options = {"crops_per_photo": 3, "tone": 0.5, "surface_share": 0.2, "rotate": True}
    forwards = [pairs(kind, settings, **options)[index] for index in range(10)]
    other = pairs(kind, settings, **options)
    for index in (7, 8, 1, 9, 0, 2, 5, 4, 3, 6):
        assert_same(forwards[index], other[index])


def test_crops_of_a_scene_share_photo_and_tone_and_differ(pairs) -> None:
    dataset = pairs(crops_per_photo=4, tone=1.0)
    for number in range(7):
        own = range(4 * number, 4 * number + 4)
        photo = dataset.photos[photo_at(dataset.seed, number, 5)]
        assert {dataset.photos_of(index) for index in own} == {(photo,)}
        dataset[own[0]]
        scene = dataset._kept
        crops = [dataset[index]["gt"] for index in own]
        assert dataset._kept is scene
        assert all(not torch.equal(crops[0], crop) for crop in crops[1:])
    assert len({dataset.photos_of(4 * number) for number in range(5)}) == 5


def test_crops_of_a_scene_have_noise_of_their_own_from_the_table(pairs, monkeypatch) -> None:
    used = []
    bits = TableGenerator.bits

    def watch(self, count: int) -> torch.Tensor:
        used.append(self.initial_seed())
        return bits(self, count)

    monkeypatch.setattr(TableGenerator, "bits", watch)
    shared = pairs("GaussianNoise", {"sigma": (9.0, 9.0)}, crops_per_photo=4)
    noises = [shared[index]["lq"] - shared[index]["gt"] for index in range(4)]
    assert len(set(used)) == 4
    assert all(not torch.equal(noises[0], noise) for noise in noises[1:])
    assert abs(torch.stack(noises).std() * 255 - 9) < 0.4
    used.clear()
    pairs("GaussianNoise", crops_per_photo=1)[0]
    assert not used


def test_a_scene_is_drawn_once_for_all_its_crops(pairs, monkeypatch) -> None:
    dataset, drawn = pairs(crops_per_photo=4), []
    draw = type(dataset.degradation).draw_scene

    def counted(self, thumbnail, generator):
        drawn.append(1)
        return draw(self, thumbnail, generator)

    monkeypatch.setattr(type(dataset.degradation), "draw_scene", counted)
    for index in range(8):
        dataset[index]
    assert len(drawn) == 2


@pytest.mark.parametrize("kind", ["Haze", "Shadow"])
def test_crops_of_one_scene_agree_where_they_overlap(kind: str) -> None:
    """The same pixels of two crops get the same haze or shadow, mirrored or not."""
    degradation = build_degradation(Component(kind, {**STILL[kind], "clean_share": 0.0}))
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    photo = torch.nn.functional.interpolate(coarse, (96, 96), mode="bilinear")[0]
    settings = {"soften_share": 0.0} if kind == "Haze" else {}
    degradation = build_degradation(
        Component(kind, {**STILL[kind], **settings, "clean_share": 0.0})
    )
    scene = degradation.draw_scene(PhotoFrame.whole(photo).thumbnail, generator)

    def crop(left: int, top: int, side: int = 48, mirrored: bool = False) -> torch.Tensor:
        part = photo[:, top : top + side, left : left + side]
        x0, x1 = left / 96, (left + side) / 96
        box = (
            (x1, top / 96, x0, (top + side) / 96)
            if mirrored
            else (x0, top / 96, x1, (top + side) / 96)
        )
        frame = PhotoFrame(PhotoFrame.whole(photo).thumbnail, box)
        clean = part.flip(-1) if mirrored else part
        lq = degradation.apply(clean.contiguous(), scene, torch.Generator(), frame)["lq"]
        return lq.flip(-1) if mirrored else lq

    one, other, turned = crop(0, 0), crop(16, 24), crop(16, 24, mirrored=True)
    assert (one[:, 24:, 16:] - other[:, :24, :32]).abs().max() <= 1.01 / 255
    assert (turned - other).abs().max() <= 1.01 / 255
    assert not torch.equal(one, photo[:, :48, :48])


@pytest.mark.parametrize("kind", ["Haze", "Shadow", "Bokeh", "MotionBlur", "GaussianBlur"])
def test_calling_a_degradation_is_its_two_stages(kind: str) -> None:
    degradation = build_degradation(Component(kind))
    photo = torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(1))
    frame = PhotoFrame.whole(photo)
    for seed in range(8):
        one, two = (torch.Generator().manual_seed(seed) for _ in range(2))
        scene = degradation.draw_scene(frame.thumbnail, two)
        whole = degradation(photo, one, frame)
        assert_same(whole, degradation.apply(photo, scene, two, frame))


def test_shared_scenes_have_the_distribution_of_single_ones(pairs) -> None:
    """Mean and spread of the degraded values agree within the error of the samples."""
    options = {"tone": 0.3, "patch": 16}
    values = {}
    for crops in (1, 4):
        dataset = pairs(crops_per_photo=crops, **options)
        means = [float(dataset[index * crops]["lq"].mean()) for index in range(200)]
        values[crops] = np.mean(means), np.std(means)
    error = values[1][1] / 200**0.5
    assert abs(values[1][0] - values[4][0]) < 4.5 * error
    assert abs(values[1][1] - values[4][1]) < 4.5 * error


def test_a_dataset_with_a_scene_goes_to_a_loader_process(pairs) -> None:
    dataset = pairs("Shadow", {"clean_share": 0.0}, crops_per_photo=4)
    expected = dataset[5]
    assert dataset._kept is not None
    assert_same(pickle.loads(pickle.dumps(dataset))[5], expected)


def test_crops_per_photo_is_positive(pairs) -> None:
    with pytest.raises(ConfigError, match="crops_per_photo: expected at least 1, got 0"):
        pairs(crops_per_photo=0)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A photo of 2000 x 1400 pixels with edges and texture."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (70, 100, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((2000, 1400), Image.Resampling.BICUBIC))
    image = image.astype(int) + rng.integers(-12, 13, image.shape)
    image[300:700, 500:900] = 255 - image[300:700, 500:900]
    (tmp_path / "large").mkdir()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / "large" / "a.png")
    return tmp_path / "large"


@pytest.mark.parametrize("patch", [64, 128, 256])
def test_patches_from_smaller_copies_are_those_of_the_photo(pairs, large, patch: int) -> None:
    """PSNR to Pillow's resize of the same part of the full photo is 40 dB or more."""
    dataset = pairs(folders=[large], patch=patch, flip=False, scale_range=(0.3, 1.0))
    dataset.degradation = lambda clean, _, frame: {"lq": clean, "box": torch.tensor(frame.box)}
    with Image.open(next(large.iterdir())) as image:
        photo = image.convert("RGB")
    scale, worst = torch.tensor([2000.0, 1400.0, 2000.0, 1400.0]), []
    for index in range(12):
        item = dataset[index]
        box = tuple((item["box"] * scale).tolist())
        exact = photo.resize((patch, patch), Image.Resampling.BICUBIC, box=box)
        difference = item["gt"].permute(1, 2, 0).numpy() * 255 - np.asarray(exact, np.float32)
        worst.append(10 * np.log10(255**2 / np.square(difference).mean()))
    assert min(worst) > 40


def test_a_patch_keeps_its_place_on_a_smaller_copy(pairs, large, monkeypatch) -> None:
    """Each side moves by at most 1.5 pixels of the copy: place, length and copy are rounded."""

    def boxes() -> torch.Tensor:
        dataset = pairs(folders=[large], scale_range=(0.5, 1.0), flip=False)
        dataset.degradation = lambda clean, _, frame: {"lq": clean, "box": torch.tensor(frame.box)}
        return torch.stack([dataset[index]["box"] for index in range(20)])

    on_copies = boxes()
    monkeypatch.setattr(synthetic_pairs, "LEVEL_SIDES", ())
    sides = torch.tensor([512.0, 358.0, 512.0, 358.0])
    assert ((boxes() - on_copies) * sides).abs().max() < 1.5
    assert not torch.equal(boxes(), on_copies)


def test_a_level_and_a_photo_of_its_size_are_different_entries(large, tmp_path: Path) -> None:
    cache, path = PhotoCache(tmp_path / "levels"), next(large.iterdir())
    cache.load_level(path, 512, 2048)
    cache.load(path, 512)
    assert len(list(cache.folder.iterdir())) == 3


def test_a_level_is_made_from_the_cached_photo(large, tmp_path: Path, monkeypatch) -> None:
    cache, path = PhotoCache(tmp_path / "levels"), next(large.iterdir())
    cache.load(path, 2048)
    monkeypatch.setattr("refusion.images.cache.read_image", lambda *_: pytest.fail("decoded again"))
    level = cache.load_level(path, 512, 2048)
    assert level.shape == (358, 512, 3)
    assert isinstance(level, np.memmap)
    assert np.array_equal(level, cache.load_level(path, 512, 2048))


def test_small_parts_are_cut_from_the_full_photo(pairs, large, monkeypatch) -> None:
    used = []
    load = PhotoCache.load_level

    def watch(self, path, side, max_side):
        used.append(side)
        return load(self, path, side, max_side)

    monkeypatch.setattr(PhotoCache, "load_level", watch)
    for part, expected in ((0.3, set()), (0.8, {1024}), (1.0, {1024})):
        used.clear()
        pairs(folders=[large], patch=300, scale_range=(part, part))[0]
        assert set(used) == expected, part
    used.clear()
    pairs(folders=[large], patch=32, scale_range=(0.5, 0.5))[0]
    assert used == [min(synthetic_pairs.LEVEL_SIDES)]
