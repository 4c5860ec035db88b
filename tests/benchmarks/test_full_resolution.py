"""The benchmark of whole photos runs, and its tables say what was measured."""

import pytest
import torch
from PIL import Image

from benchmarks import full_resolution
from refusion.sde import estimate


def run(total, sample=1.0, peak=2.0):
    seconds = {"load": 1.0, "sample": sample, "start": total - 1.0 - sample}
    return full_resolution.Run(seconds, {"load": 0.5, "sample": peak}, total, peak)


def test_tables_hold_medians_and_ratios_within_rounds():
    runs = {
        (6.0, "plain"): [run(100.0), run(400.0), run(90.0)],
        (6.0, "tuned"): [run(10.0), run(20.0), run(3.0)],
        (24.0, "tuned"): [run(5.0)],
    }
    lines = full_resolution.report("name", runs).splitlines()
    assert "| 6 | **all** | **10.00** | **2.00** | |" in lines
    assert "| 24 | load | 1.00 | 0.50 | 20% |" in lines
    assert "| 6 | 10.0 | 0.167 | 2.00 | 100.0 | 2.00 | 20.0 |" in lines  # of 10, 20 and 30
    assert "| 24 | 5.0 | 0.042 | 2.00 | | | |" in lines


@pytest.mark.parametrize("model", ["haze", "latent"])
@pytest.mark.parametrize("variant", ["tuned", "plain"])
def test_a_photo_is_measured_by_stages(tmp_path, variant, model, tiny_checkpoint):
    photo, weights = tmp_path / "photo.jpg", tiny_checkpoint(model)
    full_resolution.write_photo(None, 0.01, photo)
    texts = ["--variant", variant, "--photo", str(photo), "--weights", str(weights)]
    options = full_resolution.build_parser().parse_args([*texts, "--plain-steps", "2"])
    measured = full_resolution.measure(options)
    stages = {"load", "read", "sample", "decode", "write"}
    stages |= {"encode"} if model == "latent" else set()
    assert set(measured.seconds) == set(measured.gigabytes) == stages
    assert min(measured.seconds.values()) >= 0
    assert 0 < measured.peak < 100
    with Image.open(photo.with_suffix(".out.jpg")) as image:
        assert abs(image.width * image.height - 10_000) < 200


@pytest.mark.parametrize(("model", "ran"), [("haze", 1), ("pixel", 2)])
def test_steps_that_did_not_run_are_added_to_the_plain_time(
    model, ran, tiny_checkpoint, monkeypatch
):
    calls, clock = [], full_resolution.Clock()
    restore = full_resolution.plain(tiny_checkpoint(model), 2, clock)
    monkeypatch.setattr(
        full_resolution, "estimate", lambda *given: calls.append(given) or estimate(*given)
    )
    restore(torch.zeros(1, 3, 24, 32, dtype=torch.uint8))
    assert len(calls) == ran
    measured = clock.seconds["sample"] - clock.extrapolated
    assert clock.seconds["sample"] == pytest.approx(measured * (1 if ran == 1 else 50))
