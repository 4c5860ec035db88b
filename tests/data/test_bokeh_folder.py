"""Bokeh pairs: lenses as numbers, exchanged with their photos, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dataset_cases import assert_same, save_photo

from refusion.data import BokehFolder
from refusion.errors import ConfigError
from refusion.optics.lens import lens_number

META = """00000, Sony50mmf1.8BS, Sony50mmf16.0BS, 35
00001, Sony50mmf16.0BS, Canon50mmf1.4BS, 62

00002,Canon50mmf1.4BS ,Sony50mmf1.8BS, 18
"""
LENSES = [[18, 160, 35], [160, -14, 62], [-14, 18, 18]]


@pytest.fixture
def bokeh(tmp_path: Path):
    """Maker of BokehFolder; the three pairs are losslessly told apart by their colours."""
    for number in range(3):
        for kind in ("src", "tgt"):
            save_photo(tmp_path / f"{number:05}.{kind}.png")
    save_photo(tmp_path / "00001.alpha.png")
    (tmp_path / "meta.txt").write_text(META)

    def make(**options: object) -> BokehFolder:
        return BokehFolder(**{"folder": tmp_path, "cache": tmp_path / ".cache", **options})

    make.root = tmp_path
    return make


def test_photos_may_lie_in_folders_by_kind(bokeh) -> None:
    together = bokeh()
    samples = [together[index] for index in range(3)]
    for path in sorted(bokeh.root.glob("0*")):
        kind = path.name.split(".")[1]
        (bokeh.root / kind).mkdir(exist_ok=True)
        path.rename(bokeh.root / kind / path.name)
    apart = bokeh()
    for index, sample in enumerate(samples):
        assert_same(apart[index], sample)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Sony50mmf1.8BS", 18),
        ("Sony50mmf16.0BS", 160),
        ("Canon50mmf1.4BS", -14),
        ("Canon50mmf1.8BS", -18),
        ("Sony50mmf2BS", 20),
    ],
)
def test_lens_numbers_are_ten_f_signed_by_maker(name: str, number: float) -> None:
    assert lens_number(name) == number


@pytest.mark.parametrize(
    "name", ["Nikon50mmf1.8BS", "Sony85mmf1.8BS", "Sony50mmf1.8", "Sony50mmf0BS", "18", ""]
)
def test_unknown_lenses_tell_the_form(name: str) -> None:
    with pytest.raises(ConfigError, match="such as Sony50mmf"):
        lens_number(name)


def test_whole_pairs_carry_their_lenses(bokeh) -> None:
    dataset = bokeh()
    assert [item["name"] for item in dataset] == ["00000", "00001", "00002"]
    assert [item["lens"].tolist() for item in dataset] == LENSES
    item = dataset[0]
    assert item["lens"].dtype == torch.float32
    assert item["lq"].shape == item["gt"].shape == (3, 64, 96)
    assert not torch.equal(item["lq"], item["gt"])


def test_whole_photos_need_no_ground_truth(bokeh) -> None:
    measured = [bokeh()[index] for index in range(3)]
    for path in bokeh.root.glob("*.tgt.png"):
        path.unlink()
    dataset = bokeh()
    for index, item in enumerate(measured):
        del item["gt"]
        assert_same(dataset[index], item)
        assert dataset[index]["name"] == item["name"]
    with pytest.raises(ConfigError, match=r"folder: no ground truth, which crops \(patch: 32\)"):
        bokeh(patch=32)
    (bokeh.root / "00001.src.png").unlink()
    with pytest.raises(ConfigError, match=r"'00001' \(none in .*, \.src\); each id needs .src and"):
        bokeh()


def test_crops_are_keyed_and_have_the_lenses_of_their_photo(bokeh) -> None:
    dataset, again = bokeh(patch=32, rotate=True), bokeh(patch=32, rotate=True)
    items = [dataset[index] for index in range(9)]
    for index in (8, 2):
        assert_same(items[index], again[index])
    assert all(item["lq"].shape == (3, 32, 32) for item in items)
    seen = [item["lens"].tolist() for item in items]
    assert all(seen[start : start + 3].count(lens) == 1 for start in (0, 3, 6) for lens in LENSES)


def test_swap_exchanges_photos_and_lenses_where_one_is_sharp(bokeh) -> None:
    straight, swapped = bokeh(patch=32), bokeh(patch=32, swap=1.0)
    for index in range(6):
        one, other = straight[index], swapped[index]
        if one["lens"][:2].max() > 100:
            order = torch.tensor([1, 0, 2])
            one = {"lq": one["gt"], "gt": one["lq"], "lens": one["lens"][order]}
        assert_same(one, other)
    half = bokeh(patch=32, swap=0.5)
    same = sum(torch.equal(half[i]["lens"], straight[i]["lens"]) for i in range(30))
    assert 14 <= same <= 26  # a third of the pairs never, half of the others


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("00003, Sony50mmf1.8BS, 35", "expected 'id, source lens, target lens, disparity', got"),
        ("00003, Sony50mmf1.8BS, Leica50mmf2BS, 35", "Leica50mmf2BS.*such as"),
        ("00003, Sony50mmf1.8BS, Sony50mmf1.8BS, far", "disparity: expected a number, got 'far'"),
        ("00003, Sony50mmf1.8BS, Sony50mmf1.8BS, nan", "disparity"),
        ("00000, Sony50mmf1.8BS, Sony50mmf1.8BS, 3", "'00000' is listed twice"),
    ],
)
def test_malformed_meta_names_file_and_line(bokeh, line: str, words: str) -> None:
    (bokeh.root / "meta.txt").write_text(META + line)
    with pytest.raises(ConfigError, match=f"meta.txt, line 5: .*{words}"):
        bokeh()


def test_missing_parts_are_listed(bokeh) -> None:
    (bokeh.root / "00000.tgt.png").unlink()
    (bokeh.root / "meta.txt").write_text(META + "00007, Sony50mmf1.8BS, Sony50mmf1.8BS, 3")
    with pytest.raises(ConfigError, match=r"3 photos.*00000.src.png.*\.tgt.*'00007'.*\.src"):
        bokeh()
    (bokeh.root / "meta.txt").unlink()
    with pytest.raises(ConfigError, match="it lists"):
        bokeh()


def test_other_photos_and_sizes_are_refused(bokeh) -> None:
    save_photo(bokeh.root / "00001.tgt.png", 95)
    with pytest.raises(ConfigError, match=r"96x64.*95x64"):
        bokeh()
    save_photo(bokeh.root / "extra.png")
    with pytest.raises(ConfigError, match=r"extra.png"):
        bokeh()
