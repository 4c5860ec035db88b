"""Crops of photos and of their results at 100 %: halos, noise and steps show there first.

python -m benchmarks.crops docs/images/crops_dehaze.jpg examples/tea-gardens.jpg@400,100 ... --task
dehaze writes one row per photo and place: the photo, and the result of the whole photo. A place is
the upper left corner of the crop in pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from refusion import load_restorer, read_image
from refusion.errors import ConfigError
from refusion.files import atomic_write

SIDE = (400, 200)  # width and height of a crop in pixels
GAP = 6  # white pixels between the crops


def place_of(text: str) -> tuple[Path, int, int]:
    """The photo, x and y of 'PHOTO@x,y'.

    Raises:
        ConfigError: the text has another form.
    """
    path, at, place = text.rpartition("@")
    x, comma, y = place.partition(",")
    if not (path and at and comma and x.isdecimal() and y.isdecimal()):
        raise ConfigError(f"crops: expected PHOTO@x,y, such as sea.jpg@400,100, got '{text}'")
    return Path(path), int(x), int(y)


def crop(photo: Tensor, x: int, y: int) -> Image.Image:
    """A part of a photo (1, 3, H, W) in [0, 1], pixel by pixel."""
    width, height = SIDE
    part = photo[0, :, y : y + height, x : x + width].clamp(0, 1)
    return Image.fromarray((part * 255).round().byte().permute(1, 2, 0).numpy())


def sheet(task: str, places: Sequence[tuple[Path, int, int]]) -> Image.Image:
    """One row per place: photo and result.

    Raises:
        ConfigError: a crop does not lie in its photo.
        ImageError: a photo cannot be read.
    """
    restorer, width, height = load_restorer(task), *SIDE
    size = 2 * width + GAP, len(places) * (height + GAP) - GAP
    page, last, photo, result = Image.new("RGB", size, "white"), None, torch.empty(0), None
    for number, (path, x, y) in enumerate(places):
        if path != last:
            last, photo = path, read_image(path).image[None]
            result = restorer.restore(photo)
        if x + width > photo.shape[-1] or y + height > photo.shape[-2]:
            raise ConfigError(
                f"crops: expected a place with {width}x{height} pixels in {path} "
                f"({photo.shape[-1]}x{photo.shape[-2]}), got {x},{y}"
            )
        for column, image in enumerate((photo, result)):
            place = column * (width + GAP), number * (height + GAP)
            page.paste(crop(image, x, y), place)
    return page


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.crops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="JPEG file")
    parser.add_argument("crops", nargs="+", metavar="PHOTO@x,y", help="upper left corner of a crop")
    parser.add_argument("--task", default="dehaze", help="shipped task, or a .safetensors file")
    options = parser.parse_args(argv)
    page = sheet(options.task, [place_of(text) for text in options.crops])
    with atomic_write(options.out) as aside:
        page.save(aside, format="JPEG", quality=90)


if __name__ == "__main__":
    main()
