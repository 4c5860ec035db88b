"""The comparison of dehazing: its sets, scores by hand, the table, contact sheets, limits."""

import json
import math

import pytest
import torch
from PIL import Image

from benchmarks import haze_sets
from benchmarks.contact_sheet import GAP, HEAD, SIDE, contact_sheet, reduced
from benchmarks.haze_sets import CLEAR, DISTANT, HAZY, Measured, Photo, measure, table
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.errors import ConfigError
from refusion.images.io import write_image
from refusion.metrics import score_pair


def photo(seed, height=40, width=60):
    values = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return (values * 255).round() / 255


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, photo(seed), None)


@pytest.fixture
def data(tmp_path):
    """A data folder in which every set has a few photos."""
    root = tmp_path / "data"
    for seed, place in enumerate(haze_sets.PAIRED.values()):
        for part in ("hazy", "gt"):
            save(root / "eval" / place / part / "a.png", seed + (part == "gt"))
    for hazy, published in haze_sets.UNPAIRED.values():
        for place in filter(None, (hazy, published)):
            save(root / "eval" / place / "b.png", 5)
    for folder in haze_sets.TRAINING:
        for number in range(12):
            save(root / folder / f"{folder}{number}.png", number)
    return root


def options(data, *more):
    given = ["--data", str(data), "--out", str(data / "out"), "--cache", str(data / "cache"), *more]
    return haze_sets.build_parser().parse_args([*given, "--device", "cpu"])


def test_all_sets_are_found_and_the_photos_are_those_that_no_training_sees(data):
    found = {name: list(photos) for name, photos in haze_sets.sets(options(data)).items()}
    assert list(found) == ["REVIDE", "RESIDE", CLEAR, HAZY, DISTANT, "natural", "NH-HAZE"]
    assert found[DISTANT] == []  # noise is no landscape
    settings = {"folders": [data / name for name in haze_sets.TRAINING], "whole": True}
    settings |= {"degradation": Component("Haze"), "held_out": 4}
    train = DATASETS["SyntheticPairs"](**settings, split="train")
    everything = DATASETS["SyntheticPairs"](**settings, split="all")
    kept = {path.stem for path in everything.photos} - {path.stem for path in train.photos}
    assert kept and {one.name for one in found[CLEAR]} == {one.name for one in found[HAZY]} == kept
    assert all(torch.equal(one.given, one.truth) for one in found[CLEAR])
    changed = [bool((one.given - one.truth).abs().max() > 0.05) for one in found[HAZY]]
    assert sum(changed) >= 0.5 * len(changed)  # some samples have little haze
    assert found["REVIDE"][0].truth is not None
    natural, unpaired = found["natural"][0], found["NH-HAZE"][0]
    assert natural.title == "published"
    assert natural.truth is None and natural.shown is not None
    assert unpaired.truth is None and unpaired.shown is None


def test_landscapes_get_haze_in_the_distance(data):
    rows = torch.linspace(0.9, 0.1, 40).view(-1, 1)
    land = (rows * photo(1) ** 0.3).clamp(0, 1)  # dark below, bright above
    for folder in haze_sets.TRAINING:
        for number in range(12):
            write_image(data / folder / f"{folder}{number}.png", land, None)
    found = haze_sets.sets(options(data))
    clear, distant = list(found[CLEAR]), list(found[DISTANT])
    assert len(clear) == len(distant) > 0
    left = sum(one.given.diff(dim=-1).abs().mean((0, 1, 3)) for one in distant)
    left = left / sum(one.truth.diff(dim=-1).abs().mean((0, 1, 3)) for one in distant)
    assert left[:20].mean() < 0.9 * left[20:].mean()  # of the contrast


def test_limits_and_names_to_leave_out(data):
    everything = [one.name for one in haze_sets.sets(options(data))[CLEAR]]
    names = data / "names.txt"
    names.write_text(f"# value 3\n{everything[0]}.png\n\n", encoding="utf-8")
    less = haze_sets.sets(options(data, "--exclude", str(names)))[CLEAR]
    assert [one.name for one in less] == everything[1:]
    few = list(haze_sets.sets(options(data, "--clear", "2", "--side", "30"))[CLEAR])
    assert len(few) == 2 and max(few[0].given.shape) == 30
    assert CLEAR not in haze_sets.sets(options(data, "--clear", "0"))
    with pytest.raises(ConfigError, match=r"exclude: .*absent: No such file"):
        haze_sets.sets(options(data, "--exclude", str(data / "absent")))
    with pytest.raises(ConfigError, match="--data: no set"):
        haze_sets.sets(options(data / "out"))


def test_a_missing_partner_is_named(data):
    (data / "eval" / haze_sets.PAIRED["REVIDE"] / "gt" / "a.png").rename(data / "elsewhere.png")
    write_image(data / "eval" / haze_sets.PAIRED["REVIDE"] / "gt" / "c.png", photo(1), None)
    with pytest.raises(ConfigError, match="has no photo 'a'"):
        list(haze_sets.sets(options(data))["REVIDE"])


def test_scores_are_those_of_the_metrics():
    given, truth = photo(0)[None], photo(1)[None]
    (row,) = measure([Photo("x", given, truth, truth)], {"darker": lambda lq: lq / 2})
    for name, image in {"input": given, "darker": given / 2}.items():
        assert row.scores[name]["psnr"] == score_pair(image, truth)["psnr"]
    assert list(row.pictures) == ["input", "darker", "truth"]
    assert row.gain == pytest.approx(row.scores["darker"]["psnr"] - row.scores["input"]["psnr"])
    (row,) = measure([Photo("x", given, given, given)], {"same": torch.clone})
    assert row.scores["same"]["psnr"] == math.inf and row.gain == haze_sets.CAP


def rows(**psnr):
    """Photos with these PSNR by method."""
    return [
        Measured(str(n), {k: {"psnr": v[n], "ssim": 0.5 + n} for k, v in psnr.items()}, {})
        for n in range(len(psnr["input"]))
    ]


def test_table_by_hand():
    results = {"REVIDE": rows(input=(10, 20), model=(12, 19)), "natural": [Measured("n", {}, {})]}
    results[CLEAR] = rows(input=[math.inf] * 3, model=(math.inf, math.inf, 30))
    lines = table(results).splitlines()
    assert lines[:4] == [
        "| set (n) | input | model |",
        "|---|---|---|",
        "| REVIDE (2) | 15.00 / 1.000 | 15.50 / 1.000 (1) |",
        f"| {CLEAR} (3) | - | 50.00, 30.00, 1 |",
    ]


def test_pictures_of_the_photos_with_the_smallest_gain_are_kept(monkeypatch):
    monkeypatch.setattr(haze_sets, "ROWS", 2)
    given = [Photo(str(n), torch.full((1, 3, 8, 8), n / 10)) for n in (3, 1, 2)]
    given = [Photo(one.name, one.given, torch.zeros(1, 3, 8, 8)) for one in given]
    found = measure(given, {"half": lambda lq: lq.square()})
    assert [bool(row.pictures) for row in found] == [True, False, True]


def test_contact_sheet_places_pictures_below_their_titles():
    red = reduced(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 400, 800))
    assert red.size == (SIDE, SIDE // 2)
    page = contact_sheet([{"a": red}, {"a": red, "b": red}])
    assert page.size == (2 * (SIDE + GAP), HEAD + 2 * (SIDE // 2 + GAP))
    middle = SIDE // 4
    assert page.getpixel((middle, HEAD + middle)) == (255, 0, 0)
    assert page.getpixel((SIDE + GAP + middle, HEAD + middle)) == (255, 255, 255)
    assert page.getpixel((SIDE + GAP + middle, HEAD + SIDE // 2 + GAP + middle)) == (255, 0, 0)
    assert contact_sheet([]).width > 0


def test_the_command_writes_table_scores_and_sheets(data, tiny_checkpoint, capsys):
    model = tiny_checkpoint("latent")
    given = ["--data", str(data), "--out", str(data / "out"), "--cache", str(data / "cache")]
    haze_sets.main([*given, "--model", str(model), "--device", "cpu", "--clear", "2"])
    out = data / "out"
    assert capsys.readouterr().out == (out / "haze_sets.md").read_text(encoding="utf-8")
    scores = json.loads((out / "haze_sets.json").read_text(encoding="utf-8"))
    assert {name: len(photos) for name, photos in scores.items()} == {
        **{"REVIDE": 1, "RESIDE": 1, CLEAR: 2, HAZY: 2},
        **{"natural": 0, "NH-HAZE": 0},
    }
    columns = ["input", "dark channel", "colour attenuation"]
    assert list(scores["REVIDE"]["a"])[:3] == columns and len(scores["REVIDE"]["a"]) == 4
    assert next(iter(scores[CLEAR].values()))["input"]["psnr"] is None
    sheets = sorted(path.name for path in out.glob("*.jpg"))
    expected = ["NH-HAZE", "RESIDE", "REVIDE", "clear_kept_out", "natural"]
    assert sheets == [f"{name}.jpg" for name in [*expected, "synthetic_haze_kept_out"]]
    with Image.open(out / "REVIDE.jpg") as page:
        assert page.width == 5 * (SIDE + GAP)
    with pytest.raises(SystemExit, match="--only: no set 'x'"):
        haze_sets.main([*given, "--only", "x"])
