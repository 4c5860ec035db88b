"""The GPU benchmark runs on a CPU within its minute, as its own rehearsal."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu.report import MOST_BYTES, MOST_FILES
from refusion.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
TRAININGS = ["toy", "toy_unet"]


@pytest.mark.slow
def test_the_rehearsal(tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(20):
        coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
        image.save(photos / f"{number}.jpg")
    files = [str(ROOT / "options" / f"{name}.yml") for name in TRAININGS]
    command = [sys.executable, "-m", "benchmarks.gpu", "--minutes", "1", "--device", "cpu"]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--photos", str(photos), "--train", *files, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.monotonic() - begun < 1.05 * 60
    parts = json.loads((out / "report.json").read_text())["parts"]
    names = [part["part"] for part in parts]
    assert names == ["tests", "inference", "networks", "data", *TRAININGS]
    assert (done.returncode == 0) == all(part["state"] == "passed" for part in parts)
    for part in parts:  # a loaded machine may lack time for a measurement
        is_training = part["part"] in TRAININGS
        allowed = ("passed",) if is_training else ("passed", "stopped", "left out")
        assert part["state"].startswith(allowed), done.stdout
        assert f"| {part['part']} | {part['state']} |" in done.stdout
    found = list(out.iterdir())
    assert len(found) <= MOST_FILES
    assert all(path.stat().st_size <= MOST_BYTES for path in found)
    for name in TRAININGS:
        weights = read_checkpoint(out / f"{name}.safetensors")
        assert weights.info["step"] >= 1 and weights.info["scores"]
