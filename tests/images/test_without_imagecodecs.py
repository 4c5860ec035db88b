"""Where imagecodecs is not installed, everything works but TIFF files that have to be decoded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiff_files
import tiny_models
from PIL import Image

ROOT = Path(__file__).parents[2]
# The import of a module that is None in sys.modules raises ImportError.
START = """
import sys
sys.path[:] = {path!r}
sys.modules["imagecodecs"] = None
from refusion.cli import main
sys.exit(main({argv!r}))
"""
KINDS = ("png", "jpg", "webp", "tif")
CODECS = ("lzw", "deflate", "rgb jpeg")
TINY = [
    "train.steps=2",
    "data.batch_size=2",
    "data.workers=0",
    "data.validation=[]",
    "data.train.patch=32",
    "data.train.folders=[photos]",
    "data.train.cache=cache",
]


def run(argv, folder):
    code = START.format(path=[str(ROOT), *filter(None, sys.path)], argv=argv)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def restore(source, folder):
    argv = ["restore", "--weights", "model.safetensors", "--input", source]
    return run([*argv, "--output", f"restored/{source}"], folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    for kind in KINDS:
        Image.fromarray(pixels).save(folder / "photos" / f"{kind}.{kind}")
    (folder / "packed").mkdir()
    for codec in CODECS:
        layout = tiff_files.Layout(bits=8, photometric=2, codec=codec, rows=40)
        packed = folder / "packed" / f"{codec.split()[-1]}.tif"
        packed.write_bytes(tiff_files.tiff(pixels, layout))
    layout = tiff_files.Layout(bits=12, photometric=2, rows=40)
    (folder / "packed/12.tif").write_bytes(tiff_files.tiff(pixels.astype(np.uint16), layout))
    tiny_models.save("pixel", folder / "model.safetensors")
    return folder


def test_photos_are_restored(folder):
    done = restore("photos", folder)
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        with Image.open(folder / f"restored/photos/{kind}.{kind}") as restored:
            assert restored.size == (48, 40)


def test_a_model_is_trained(folder):
    changes = [text for change in TINY for text in ("--set", change)]
    done = run(["train", "-opt", str(ROOT / "options/toy.yml"), "--quiet", *changes], folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "runs/toy/model.safetensors").is_file()


def test_a_compressed_or_packed_tiff_names_the_package(folder):
    done = restore("packed", folder)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "failed: packed" in line]
    assert len(lines) == len(CODECS) + 1
    assert all("pip install imagecodecs" in line for line in lines)
    assert all("as TIFF with 8 or 16 bits without compression" in line for line in lines)


def test_the_package_is_not_imported_for_other_photos(folder):
    code = f"""
import sys
sys.path[:] = {[str(ROOT), *filter(None, sys.path)]!r}
import refusion
refusion.read_image('photos/jpg.jpg')
sys.exit('imagecodecs' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, timeout=60).returncode == 0
