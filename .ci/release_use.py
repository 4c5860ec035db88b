"""Used by release_check.sh in an environment that has only the wheel: imports all, makes photos.

`release_use.py tiffs` compares the TIFF files with their copies.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

import refusion

REPOSITORY = Path(__file__).resolve().parents[1]


def import_all() -> int:
    """Import every module of the installed package; optional libraries may be missing."""
    names = [module.name for module in pkgutil.walk_packages(refusion.__path__, "refusion.")]
    names = [name for name in names if not name.endswith("__main__")]
    for name in names:
        importlib.import_module(name)
    return len(names)


def write_photos(folder: Path, count: int = 3) -> None:
    """Write photos of a gradient and noise, 320x240 pixels."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        ramp = np.linspace(60, 220, 320)[None, :, None]
        photo = ramp + generator.normal(0, 20, (240, 320, 3))
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")


def write_tiffs(folder: Path) -> None:
    """Write TIFF files of 16 bits in the codecs that tifffile and imagecodecs decode."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    photo = generator.integers(8000, 50000, (120, 160, 3)).astype(np.uint16)
    for codec in ("none", "lzw", "zstd", "deflate"):
        compression = None if codec == "none" else codec
        tifffile.imwrite(folder / f"{codec}.tif", photo, photometric="rgb", compression=compression)


def check_tiffs(folder: Path, result: Path) -> None:
    """Check that a restoration of strength 0 gave the samples of every TIFF file back."""
    for path in sorted(folder.iterdir()):
        same = np.array_equal(tifffile.imread(path), tifffile.imread(result / path.name))
        if not same:
            sys.exit(f"{path}: its copy in {result} has other samples")


if __name__ == "__main__":
    if sys.argv[1:] == ["tiffs"]:
        check_tiffs(Path("tiffs"), Path("copies"))
        sys.exit()
    package = Path(refusion.__file__).resolve().parent
    if package.is_relative_to(REPOSITORY):
        sys.exit(f"{package}: expected the installed wheel, not the repository")
    write_photos(Path("photos"))
    write_tiffs(Path("tiffs"))
    sys.stdout.write(f"{import_all()} modules imported from {package}\n")
