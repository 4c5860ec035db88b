"""Used by release_check.sh in an environment that has only the wheel: imports all, makes photos."""

import importlib
import pkgutil
import sys
from pathlib import Path

import numpy as np
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


if __name__ == "__main__":
    package = Path(refusion.__file__).resolve().parent
    if package.is_relative_to(REPOSITORY):
        sys.exit(f"{package}: expected the installed wheel, not the repository")
    write_photos(Path("photos"))
    sys.stdout.write(f"{import_all()} modules imported from {package}\n")
