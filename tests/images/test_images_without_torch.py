"""Photos as arrays: reading and writing without PyTorch gives the same values and bytes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from refusion.images.io import read_arrays, read_image, write_image

FORMATS = ("jpg", "png", "tif", "webp")
PROGRAM = """
import sys
sys.modules["torch"] = None  # an import of it fails
from refusion.images.io import read_arrays, write_image
for source, *results in [sys.argv[1:]]:
    photo = read_arrays(source)
    for result in results:
        write_image(result, photo.samples, photo)
"""


def pixels(mode):
    levels = np.random.default_rng(0).integers(0, 256, (21, 34, 4), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_arrays_are_the_values_of_the_tensors(tmp_path, mode):
    pixels(mode).save(tmp_path / "photo.png")
    arrays, tensors = read_arrays(tmp_path / "photo.png"), read_image(tmp_path / "photo.png")
    assert np.array_equal(arrays.samples, tensors.samples.numpy())
    assert arrays.samples.dtype == np.uint8 and tensors.samples.dtype == torch.uint8
    assert (arrays.alpha is None) == (tensors.alpha is None) == ("A" not in mode)
    assert arrays.alpha is None or np.array_equal(arrays.alpha, tensors.alpha.numpy())


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_files_without_torch_have_the_same_bytes(tmp_path, mode):
    source = tmp_path / "photo.png"
    pixels(mode).save(source)
    results = [str(tmp_path / f"without.{suffix}") for suffix in FORMATS]
    subprocess.run([sys.executable, "-c", PROGRAM, str(source), *results], check=True)
    photo = read_image(source)
    for suffix in FORMATS:
        write_image(tmp_path / f"with.{suffix}", photo.samples, photo)
        found = [(tmp_path / f"{name}.{suffix}").read_bytes() for name in ("with", "without")]
        assert found[0] == found[1], suffix


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_float_arrays_are_rounded_like_tensors(tmp_path, dtype):
    values = np.linspace(-0.2, 1.2, 3 * 8 * 9).reshape(3, 8, 9).astype(dtype)
    write_image(tmp_path / "array.png", values)
    write_image(tmp_path / "tensor.png", torch.from_numpy(values))
    assert (tmp_path / "array.png").read_bytes() == (tmp_path / "tensor.png").read_bytes()
    levels = read_arrays(tmp_path / "array.png").samples
    assert levels.min() == 0 and levels.max() == 255
