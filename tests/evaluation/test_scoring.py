"""Evaluation against numbers computed here with NumPy, with a restorer whose result is known."""

import json
import math

import numpy as np
import pytest
import torch

from refusion.errors import ConfigError, ImageError
from refusion.evaluation.scoring import Evaluation, Score, evaluate
from refusion.images.resize import resize_like
from refusion.metrics import METRICS, reported_metrics, score_pair
from refusion.restorers import Conditions


class Brighten:
    """Adds `gain`; remembers how it was called."""

    def __init__(self, gain):
        self.gain, self.calls = gain, []

    def restore(self, lq, **options):
        self.calls.append((tuple(lq.shape), options))
        return (lq + self.gain).clamp(0, 1)


def photos(count=3, **keys):
    """Photos with 8-bit levels; photo n is 20 * (n + 1) levels darker than its ground truth."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for number in range(count):
        gt = torch.randint(90, 256, (3, 12 + number, 17), generator=generator) / 255
        items.append({"lq": gt - 20 * (number + 1) / 255, "gt": gt, "name": f"p{number}"} | keys)
    return items


def numpy_psnr(image, target):
    eight_bit = [np.rint(np.clip(x.double().numpy(), 0, 1) * 255) for x in (image, target)]
    return 10 * math.log10(255**2 / np.mean((eight_bit[0] - eight_bit[1]) ** 2))


def test_every_number_is_that_of_the_result_and_of_the_input():
    items, gain = photos(), 13.3 / 255
    result = evaluate(Brighten(gain), items)
    assert [row.name for row in result.rows] == ["p0", "p1", "p2"]
    for row, item in zip(result.rows, items, strict=True):
        restored = item["lq"] + gain
        assert row.input["psnr"] == pytest.approx(numpy_psnr(item["lq"], item["gt"]), abs=1e-4)
        assert row.result["psnr"] == pytest.approx(numpy_psnr(restored, item["gt"]), abs=1e-4)
        gap = row.result["psnr"] - row.input["psnr"]
        assert row.difference["psnr"] == pytest.approx(gap)
        assert row.result["ssim"] == score_pair(restored[None], item["gt"][None])["ssim"]
        assert row.seconds > 0
    mean = np.mean([numpy_psnr(item["lq"] + gain, item["gt"]) for item in items])
    assert result.mean.result["psnr"] == pytest.approx(mean, abs=1e-4)
    # The darker the input, the larger its error after 13 more levels.
    assert (result.best.name, result.worst.name) == ("p0", "p2")


def test_pictures_are_measured_as_8_bit_files():
    gt = torch.full((1, 3, 16, 16), 100 / 255)
    assert score_pair(gt + 0.4 / 255, gt)["psnr"] == math.inf
    assert score_pair(gt + 0.6 / 255, gt)["psnr"] == pytest.approx(20 * math.log10(255), abs=1e-3)
    assert score_pair(gt - 3, gt) == score_pair(gt * 0, gt)
    assert score_pair(gt.bfloat16(), gt)["psnr"] == math.inf
    assert list(score_pair(gt, gt)) == list(METRICS)


def test_score_pair_leaves_its_input_alone():
    image = torch.full((1, 3, 4, 4), 0.3337)
    score_pair(image, image)
    assert torch.equal(image, torch.full((1, 3, 4, 4), 0.3337))


def test_options_reach_the_restorer_and_photos_come_whole():
    restorer = Brighten(0.0)
    evaluate(restorer, photos(2), steps=7, sampler="ode", seed=5, tile=64)
    options = {"steps": 7, "sampler": "ode", "seed": 5, "tile": 64, "conditions": Conditions()}
    assert restorer.calls == [((1, 3, 12, 17), options), ((1, 3, 13, 17), options)]


def test_callback_gets_each_score_and_write_each_picture():
    items, seen, written = photos(3), [], []
    result = evaluate(
        Brighten(0.1),
        items,
        limit=2,
        callback=lambda *args: seen.append(args),
        write=lambda *args: written.append(args),
    )
    assert [args[:2] for args in seen] == [(1, 2), (2, 2)]
    assert tuple(args[2] for args in seen) == result.rows
    assert [name for name, _ in written] == ["p0", "p1"]
    for (_, picture), item in zip(written, items, strict=False):
        assert torch.equal(picture, (item["lq"] + 0.1).clamp(0, 1))


def test_photos_done_before_are_not_restored_again():
    items, restorer = photos(3), Brighten(0.1)
    first = evaluate(restorer, items).rows
    restorer.calls.clear()
    again = evaluate(restorer, items, previous_scores={0: first[0], 2: first[2]}).rows
    assert [shape for shape, _ in restorer.calls] == [(1, 3, 13, 17)]
    assert (again[0], again[2]) == (first[0], first[2])
    assert again[1].result == first[1].result


def test_baselines_are_measured_beside_the_result():
    items = photos(2)
    both = {"same": lambda lq, _: lq, "up": lambda lq, conditions: lq + 20 / 255}
    result = evaluate(Brighten(0.1), items, baselines=both, metrics=reported_metrics())
    for row in result.rows:
        assert row.baselines["same"] == row.input
    assert result.rows[0].baselines["up"]["psnr"] == math.inf  # exactly the missing 20 levels
    assert list(result.mean.methods) == ["input", "same", "up", "result"]
    assert result.mean.baselines["same"] == result.mean.input
    lines = result.methods_table(reported_metrics()).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["input", "same", "up", "result"]
    assert lines[0].split() == ["mean", "psnr", "ssim", "psnr_y", "ssim_y", "ciede2000"]
    assert lines[6].startswith("psnr: dB, RGB, data range 1 (255 levels), no border cut")
    assert result.to_dict()["images"][0]["up"]["psnr"] is None


def test_baselines_that_nothing_measures_are_not_computed():
    items = [{"lq": item["lq"]} for item in photos(2)]
    result = evaluate(Brighten(0.1), items, baselines={"never": lambda *_: 1 / 0})
    assert result.mean.baselines == {}
    both = evaluate(Brighten(0.1), [*photos(1), *items], baselines={"same": lambda lq, _: lq})
    assert both.mean.baselines["same"] == both.mean.input


def test_times_with_and_without_reading_and_writing(monkeypatch):
    clock = iter([0, 2, 7, 10])  # read 2 s, restore 5 s, write 3 s
    monkeypatch.setattr("refusion.evaluation.scoring.time.perf_counter", lambda: next(clock))
    result = evaluate(Brighten(0.1), photos(1), write=lambda *_: None)
    assert (result.mean.seconds, result.mean.io_seconds) == (5, 5)
    table = result.methods_table(METRICS)
    assert table.endswith("seconds per photo: 5.000 without and 10.000 with reading and writing")


def test_the_conditions_of_an_item_reach_the_restorer():
    restorer = Brighten(0.0)
    lens = torch.tensor([18.0, -14.0, 35.0])
    evaluate(restorer, photos(1, lens=lens, noise_std=torch.tensor(0.25)))
    conditions = restorer.calls[0][1]["conditions"]
    assert torch.equal(conditions.lens, lens)
    assert conditions.noise_std == 0.25
    assert isinstance(conditions.noise_std, float)


def test_a_smaller_input_is_measured_enlarged():
    (item,) = photos(1)
    item["gt"] = item["gt"].repeat_interleave(3, -1).repeat_interleave(3, -2)

    class Enlarge(Brighten):
        def restore(self, lq, **options):
            return lq.repeat_interleave(3, -1).repeat_interleave(3, -2) + 20 / 255

    (row,) = evaluate(Enlarge(0.0), [item]).rows
    assert row.result["psnr"] == math.inf
    enlarged = resize_like(item["lq"][None], item["gt"][None])[0]
    assert row.input["psnr"] == pytest.approx(numpy_psnr(enlarged, item["gt"]), abs=1e-4)


def test_a_stereo_pair_is_measured_as_its_two_views():
    first, second = photos(2)
    second = {key: second[key][..., :12, :] for key in ("lq", "gt")}
    pair = {key: torch.cat([first[key], second[key]]) for key in ("lq", "gt")}
    (row,) = evaluate(Brighten(0.0), [pair]).rows
    alone = evaluate(Brighten(0.0), [first, second])
    assert row.result["ssim"] == pytest.approx(alone.mean.result["ssim"], abs=1e-6)


def test_without_ground_truth_there_are_times_only():
    items = [{"lq": item["lq"]} for item in photos()]
    result = evaluate(Brighten(0.1), items)
    assert [row.name for row in result.rows] == ["0", "1", "2"]
    assert result.worst is result.best is None
    assert result.mean.result == {}
    assert set(result.to_dict()) == {"images", "mean"}
    assert set(result.to_dict()["images"][0]) == {"name", "seconds", "io_seconds"}
    assert result.table().splitlines()[0].split() == ["image", "seconds"]


def test_a_mean_is_over_the_photos_that_have_the_number():
    rows = ({"niqe": 3.0}, {"psnr": 20.0, "niqe": 5.0}, {"psnr": 30.0, "niqe": 4.0})
    mean = Evaluation(tuple(Score("x", 1.0, row, row) for row in rows)).mean
    assert mean.result == mean.input == {"niqe": 4.0, "psnr": 25.0}


def test_without_psnr_the_table_shows_a_change_instead_of_a_gain():
    niqe = Evaluation((Score("x", 1.0, {"niqe": 5.0}, {"niqe": 3.0}),)).table()
    assert "change niqe" in niqe
    assert "-2.0000" in niqe
    psnr = Evaluation((Score("x", 1.0, {"psnr": 5.0}, {"psnr": 9.0}),)).table()
    assert "gain psnr" in psnr


def test_only_the_metrics_asked_for():
    result = evaluate(Brighten(0.1), photos(1), metrics={"ssim": METRICS["ssim"]})
    assert set(result.rows[0].result) == {"ssim"}
    assert result.worst is None


def test_a_perfect_result_is_infinite_and_null_in_json():
    perfect = [{"lq": item["gt"], "gt": item["gt"], "name": "x"} for item in photos(1)]
    result = evaluate(Brighten(0.0), perfect)
    assert result.rows[0].result["psnr"] == math.inf
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["images"][0]["result"] == {"psnr": None, "ssim": 1.0}
    assert plain["images"][0]["difference"] == {"psnr": None, "ssim": 0.0}
    assert "inf" in result.table()


def test_table_shows_each_photo_then_mean_worst_and_best():
    rows = (
        Score("a", 1.0, {"psnr": 10.0, "ssim": 0.25}, {"psnr": 12.5, "ssim": 0.5}),
        Score("long name", 2.0, {"psnr": 20.0, "ssim": 0.75}, {"psnr": 18.0, "ssim": 0.75}),
    )
    lines = Evaluation(rows).table().splitlines()
    assert len({len(line) for line in lines}) == 1  # columns are aligned
    assert [line.rsplit(maxsplit=7) for line in (lines[2], lines[3], *lines[5:])] == [
        ["a", "10.00", "0.2500", "12.50", "0.5000", "+2.50", "+0.2500", "1.00"],
        ["long name", "20.00", "0.7500", "18.00", "0.7500", "-2.00", "+0.0000", "2.00"],
        ["mean of 2", "15.00", "0.5000", "15.25", "0.6250", "+0.25", "+0.1250", "1.50"],
        ["worst: a", "10.00", "0.2500", "12.50", "0.5000", "+2.50", "+0.2500", "1.00"],
        ["best: long name", "20.00", "0.7500", "18.00", "0.7500", "-2.00", "+0.0000", "2.00"],
    ]
    assert "input psnr" in lines[0]
    assert "result ssim" in lines[0]
    assert "gain psnr" in lines[0]


class Endless(list):
    def __len__(self):
        raise TypeError("endless")


@pytest.mark.parametrize(
    ("dataset", "limit", "words"),
    [([], None, "no photos"), (photos(1), 0, "no photos"), (Endless(), None, "Endless is endless")],
)
def test_nothing_to_evaluate_is_an_error(dataset, limit, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(Brighten(0.0), dataset, limit=limit)


def test_errors_name_the_photo():
    pair = photos(1, gt=torch.zeros(3, 5, 5))
    with pytest.raises(ImageError, match=r"p0: .*\(1, 3, 5, 5\)"):
        evaluate(Brighten(0.0), pair)

    class Full(Brighten):
        def restore(self, lq, **options):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ImageError, match=r"p0: not enough memory.*--tile"):
        evaluate(Full(0.0), photos(1))


@pytest.mark.parametrize("lq", ["a.jpg", np.zeros((8, 9), np.uint8), torch.zeros(8, 9), None])
def test_an_item_without_an_image_is_refused(lq):
    with pytest.raises(ImageError, match="lq: expected an array"):
        evaluate(Brighten(0.1), [{"lq": lq, "gt": np.zeros((8, 9, 3), np.uint8)}])
