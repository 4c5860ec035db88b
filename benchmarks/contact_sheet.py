"""Contact sheets: rows of reduced photos below the titles of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from refusion.images.resize import shrink

SIDE, GAP, HEAD = 320, 4, 16  # pixels: longest side of a picture, gaps, and height of the titles


def reduced(photo: Tensor, side: int = SIDE) -> Image.Image:
    """A photo (1, 3, H, W), float in [0, 1], as a picture of at most so many pixels per side."""
    levels = (shrink(photo, side)[0] * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def contact_sheet(rows: Sequence[Mapping[str, Image.Image]], side: int = SIDE) -> Image.Image:
    """One picture of all rows.

    Args:
        rows: pictures by the title of their column; a row has at least one and may lack others.
        side: width of a column in pixels.
    """
    titles = list(dict.fromkeys(title for row in rows for title in row))
    heights = [max(picture.height for picture in row.values()) + GAP for row in rows]
    width = side + GAP
    page = Image.new("RGB", (max(1, len(titles)) * width, sum(heights) + HEAD), "white")
    pen, top = ImageDraw.Draw(page), HEAD
    for column, title in enumerate(titles):
        pen.text((column * width + 2, 2), title, fill="black")
    for row, height in zip(rows, heights, strict=True):
        for title, picture in row.items():
            page.paste(picture, (titles.index(title) * width, top))
        top += height
    return page
