"""The pictures of the README and the model card, made by the shipped model.

python benchmarks/pictures.py writes docs/images/{before_after,held_out}.jpg.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from refusion import load_restorer, read_image
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.images.resize import shrink

ROOT = Path(__file__).parent.parent
WIDTH = 640  # pixels of each picture


def row(*images: Tensor) -> Tensor:
    """Images (1, 3, H, W) side by side, each reduced to ``WIDTH``."""
    return torch.cat([shrink(image, WIDTH) for image in images], dim=-1)


def save(rows: list[Tensor], name: str) -> None:
    """Write rows of equal width one below the other."""
    pixels = (torch.cat(rows, dim=-2)[0].clamp(0, 1) * 255).round().byte()
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / name, quality=88)


def main() -> None:
    """Make both pictures."""
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
