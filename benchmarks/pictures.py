"""The pictures of the README and the model card, made by the shipped models.

python benchmarks/pictures.py writes docs/images/{before_after,held_out}.jpg. With --photos DIR it
also writes docs/images/tasks.jpg; DIR holds the two photos of `SHADOW` and `DOG`, which are
wallpapers of Ubuntu (by Matthias Niess, CC BY-SA 3.0) and of Ubuntu Budgie (by Radu Galan,
CC BY-SA 4.0).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from refusion import load_restorer, read_image
from refusion.cli import restore_main
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.images.resize import shrink

ROOT = Path(__file__).parent.parent
WIDTH = 640  # pixels of each image

HAZE = ROOT / "examples" / "hazy-coast.jpg"
SHADOW = "ubuntu__brad_huchteman_stone_mountain.jpg"
DOG = "ubudgie__stray_dog_by_radu_galan.jpg"
CELL = 520  # width in pixels of each of the six parts of tasks.jpg; their sides are 3:2
GAP = 6  # white pixels between the parts
# Outline of the dog, in pixels of a copy of 1200 x 800, traced by hand.
OUTLINE = (
    *(370, 290, 400, 284, 440, 296, 462, 325, 470, 362, 545, 366, 620, 374, 700, 368, 712, 352),
    *(695, 340, 672, 300, 690, 284, 728, 277, 790, 274, 815, 268, 858, 292, 850, 318, 832, 345),
    *(834, 375, 822, 415, 820, 470, 812, 505, 785, 525, 778, 560, 765, 615, 755, 640, 778, 672),
    *(778, 698, 735, 700, 722, 670, 718, 630, 700, 580, 678, 548, 610, 545, 560, 520, 540, 500),
    *(525, 525, 490, 575, 468, 605, 462, 650, 490, 675, 490, 688, 435, 682, 425, 620, 420, 580),
    *(425, 540, 395, 490, 392, 460, 400, 420, 418, 400, 412, 360, 410, 325),
)


def row(*images: Tensor) -> Tensor:
    """Images (1, 3, H, W) side by side, each reduced to ``WIDTH``."""
    return torch.cat([shrink(image, WIDTH) for image in images], dim=-1)


def save(rows: list[Tensor], name: str) -> None:
    """Write rows of equal width one below the other."""
    pixels = (torch.cat(rows, dim=-2)[0].clamp(0, 1) * 255).round().byte()
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / name, quality=88)


def dog_disparity() -> Image.Image:
    """Disparity of `DOG`, 8 bit, 600 x 400: a wall, a ground that comes nearer, the outline."""
    height = np.arange(800)[:, None] / 800
    ground = 0.25 + 0.75 * (height - 0.61) / 0.39  # the wall meets the ground at 0.61
    disparity = np.broadcast_to(255 * np.maximum(ground, 0.25), (800, 1200))
    image = Image.fromarray(disparity.astype(np.uint8))
    ImageDraw.Draw(image).polygon(OUTLINE, fill=186)  # the value of the ground under its paws
    return image.resize((600, 400))


def blurred(photo: Path) -> Tensor:
    """The photo of the dog, (1, 3, H, W), as a lens of f/1.4 shows it."""
    with tempfile.TemporaryDirectory() as folder:
        disparity, result = Path(folder) / "map.png", Path(folder) / "result.png"
        dog_disparity().save(disparity)
        command = ["--task", "bokeh", "--input", str(photo), "--disparity", str(disparity)]
        command += ["--from", "Sony50mmf16.0BS", "--to", "Canon50mmf1.4BS", "--focus", "0.64,0.5"]
        restore_main([*command, "--blur", "20", "--output", str(result), "--quiet"])
        return read_image(result).image[None]


def cell(image: Tensor, left: float, top: float, width: float) -> Tensor:
    """The 3:2 part of (1, 3, H, W) at shares ``left`` and ``top``, ``width`` of the photo wide."""
    x, y, columns = (round(share * image.shape[-1]) for share in (left, top, width))
    part = image[..., y : y + columns * 2 // 3, x : x + columns]
    part = shrink(part, CELL)[..., : CELL * 2 // 3, :]
    return torch.nn.functional.pad(part, (GAP, GAP, GAP, GAP), value=1.0)


def save_tasks(photos: Path) -> None:
    """Write tasks.jpg: haze, shadow, blurred background; before above, after below."""
    haze, shadow, dog = (
        read_image(path).image[None] for path in (HAZE, photos / SHADOW, photos / DOG)
    )
    results = [load_restorer("dehaze", device="cpu").restore(haze)]
    results += [load_restorer("deshadow", device="cpu").restore(shadow), blurred(photos / DOG)]
    windows = ((0.1, 0.22, 0.75), (0.2, 0.18, 0.72), (0.08, 0.08, 0.84))
    rows = [
        torch.cat([cell(image, *window) for image, window in zip(images, windows, strict=True)], -1)
        for images in ((haze, shadow, dog), results)
    ]
    save(rows, "tasks.jpg")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of the photos for tasks.jpg")
    photos = parser.parse_args().photos
    if photos:
        save_tasks(photos)
    save_examples()


def save_examples() -> None:
    """Write before_after.jpg and held_out.jpg."""
    restorer = load_restorer("dehaze", device="cpu")
    photos = [read_image(path).image[None] for path in sorted((ROOT / "examples").glob("*.jpg"))]
    save([row(photo, restorer.restore(photo)) for photo in photos], "before_after.jpg")
    held_out = DATASETS["SyntheticPairs"](
        folders=[ROOT / "tests" / "photos"],
        degradation=Component("Haze", {}),
        seed=5,
        whole=True,
        max_side=512,
    )
    pairs = [held_out[number] for number in range(len(held_out))]
    pairs = [(pair["lq"][None], pair["gt"][None]) for pair in pairs]
    save([row(lq, restorer.restore(lq), gt) for lq, gt in pairs], "held_out.jpg")


if __name__ == "__main__":
    main()
