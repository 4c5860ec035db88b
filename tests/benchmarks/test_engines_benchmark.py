"""The benchmark of engines: what its table says, and one measurement of each kind."""

import numpy as np
import pytest
import torch

from benchmarks import engines
from benchmarks.engines import EXAMPLE, REFERENCE, USUAL, Run, photo_for


def test_table_holds_medians_and_ratios_within_rounds():
    runs = {
        USUAL: [Run(2.0, (10.0,), (0.5,)), Run(3.0, (20.0,), (0.5,)), Run(9.0, (3.0,), (0.6,))],
        "other": [Run(1.0, (20.0,), (0.1,)), Run(1.0, (20.0,), (0.2,)), Run(1.0, (9.0,), (0.3,))],
        "broken": [],
    }
    compared = {USUAL: [(3, 52.04)], "other": [(1, float("inf"))]}
    lines = engines.table("task", [2.0], runs, compared).splitlines()
    assert "| PyTorch bf16 | 3.00 | 5.000 | 1.00 | 0.50 | 3 | 52.0 |" in lines
    assert "| other | 1.00 | 10.000 | 2.00 | 0.20 | 1 | inf |" in lines  # ratios 2, 1 and 3
    assert lines[-1].startswith("| broken | |")
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_differences():
    first, second = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    second[0, 0, 0] = 255
    levels, psnr = engines.differences(first, second)
    assert (levels, round(psnr, 2)) == (255, 10.79)  # 10 log10 of 12 values
    assert engines.differences(first, first) == (0, float("inf"))


def test_photos_need_their_restoration():
    plain = photo_for("blind", EXAMPLE, 96, 72).astype(int)
    noise = photo_for("denoise", EXAMPLE, 96, 72) - plain
    assert 12 < noise.std() < 16  # 15 levels, of which black and white cut some
    shadow = photo_for("deshadow", EXAMPLE, 96, 72) - plain
    assert (shadow[30, 40] < 0).all() and not shadow[:20].any()


@pytest.mark.parametrize("engine", [REFERENCE, "ONNX Runtime fp32"])
def test_a_process_measures_and_writes_its_pictures(tmp_path, engine):
    pytest.importorskip("onnxruntime")
    engines.write_photos("dehaze", EXAMPLE, [0.01], tmp_path)
    argv = ["--child", engine, "--tasks", "dehaze", "--sizes", "0.01", "--folder", str(tmp_path)]
    argv += ["--threads", str(torch.get_num_threads())]  # as before, since tests share the process
    options = engines.build_parser().parse_args(argv)
    run = engines.measure(options)
    assert run.start > 0 and run.seconds[0] > 0 and 0 < run.gigabytes[0] < 100
    result = np.load(tmp_path / f"{engine} 0.01.npy")
    photo = np.load(tmp_path / "0.01.npy")
    assert result.shape == photo.shape and np.abs(result.astype(int) - photo).max() > 3
