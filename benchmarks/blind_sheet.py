"""The image of the degradations of blind restoration in docs/training.md.

python -m benchmarks.blind_sheet PHOTO [FILE] writes docs/images/blind.jpg: the effect of each part
on a crop, and both pipelines with five samples each.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from refusion import read_image
from refusion.images.resize import shrink
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.degradations.blind import resized
from refusion.synthesis.degradations.blur import convolve
from refusion.synthesis.degradations.kernels import Ellipse, gaussian, plateau, sinc
from refusion.synthesis.scenes.frame import PhotoFrame

SIDE = 176  # pixels of each image
BAND = 16  # height in pixels of the caption
COLUMNS = 5
OUTPUT = Path(__file__).parent.parent / "docs" / "images" / "blind.jpg"


def parts(clean: Tensor) -> dict[str, Tensor]:
    """The result of each part for a crop (3, SIDE, SIDE), by its caption."""
    round_, narrow = Ellipse(21, (2.5, 2.5)), Ellipse(21, (4.0, 1.0), math.pi / 4)
    kernels = {
        "Gaussian": gaussian(round_),
        "Gaussian, two widths": gaussian(narrow),
        "generalised, exponent 4": gaussian(Ellipse(21, (4.0, 4.0)), 4.0),
        "plateau, exponent 2": plateau(narrow, 2.0),
        "sinc": sinc(21, math.pi / 4),
    }
    noise = {"sigma": [30, 30], "poisson": [3, 3]}
    drawn = {
        "Gaussian noise": {"gaussian_share": 1.0, "gray_share": 0.0},
        "Gaussian noise, gray": {"gaussian_share": 1.0, "gray_share": 1.0},
        "Poisson noise": {"gaussian_share": 0.0, "gray_share": 0.0},
        "Poisson noise, gray": {"gaussian_share": 0.0, "gray_share": 1.0},
    }
    pictures = {"clean": clean}
    for mode in ("area", "bilinear", "bicubic"):
        small = resized(clean, (SIDE // 4, SIDE // 4), mode)
        pictures[f"1/4 and back, {mode}"] = resized(small, (SIDE, SIDE), mode)
    pictures["JPEG, quality 30"] = _applied({"type": "Jpeg", "quality": [30, 30]}, clean, 0)
    pictures |= {name: convolve(clean, kernel) for name, kernel in kernels.items()}
    for name, settings in drawn.items():
        pictures[name] = _applied({"type": "MixedNoise", **noise, **settings}, clean, 0)
    pictures["SincFilter"] = _applied({"type": "SincFilter", "share": 1.0}, clean, 1)
    for name in ("FirstOrder", "SecondOrder"):
        for seed in range(COLUMNS):
            pictures[f"{name}, draw {seed + 1}"] = _applied({"type": name}, clean, seed)
    return pictures


def _applied(section: dict[str, object], clean: Tensor, seed: int) -> Tensor:
    source = Generator().manual_seed(seed)
    return build_degradation(section)(clean, source, PhotoFrame.whole(clean))["lq"]


def sheet(pictures: dict[str, Tensor]) -> Image.Image:
    """Images in rows of `COLUMNS`, each above its caption."""
    rows = -(-len(pictures) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + BAND)), "white")
    draw = ImageDraw.Draw(page)
    for number, (name, picture) in enumerate(pictures.items()):
        left, top = number % COLUMNS * SIDE, number // COLUMNS * (SIDE + BAND)
        pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        page.paste(Image.fromarray(pixels.contiguous().numpy()), (left, top))
        draw.text((left + 4, top + SIDE + 2), name, fill="black")
    return page


def main() -> None:
    """Write the image."""
    photo = read_image(sys.argv[1]).image
    short, long = sorted(photo.shape[-2:])
    photo = shrink(photo[None], round(1.3 * SIDE * long / short))[0]
    top, left = ((side - SIDE) // 2 for side in photo.shape[-2:])
    crop = photo[:, top : top + SIDE, left : left + SIDE].contiguous()
    with torch.no_grad():
        page = sheet(parts(crop))
    page.save(sys.argv[2] if len(sys.argv) > 2 else OUTPUT, quality=80)


if __name__ == "__main__":
    main()
