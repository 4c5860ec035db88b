"""Pages of photos kept out of training: degraded, restored, and the truth; the worst first.

python -m benchmarks.gallery --photos DIR --kodak DIR --out docs/images writes gallery_PAGE.jpg for
each page. DIR with --photos holds the photos of the training under free licences; those that a task
kept out are used, by the SHA-1 of their names. --kodak holds 17.png to 24.png, which no model has
seen. The page "clear" has the photos without haze that the dehazing model changes: add the list of
photos with natural mist by --exclude.
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.contact_sheet import contact_sheet, reduced
from benchmarks.haze_sets import ENOUGH, evenly
from refusion import load_restorer
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.data.exclusions import read_exclusions
from refusion.files import atomic_write
from refusion.metrics import psnr

SIDE, CAPTION = 240, 14  # pixels: longest side of a picture, height of the line below it
KODAK = tuple(map(str, range(17, 25)))


@dataclass(frozen=True)
class Source:
    """Photos of a page and how they are degraded.

    Attributes:
        degradation: of each photo, a function of its name.
        held_out: one photo of so many was kept out of training; None for Kodak 17 to 24.
        max_side: the photos are reduced to this longest side in pixels.
        most: at most so many photos, evenly spread over the names.
        below: only photos whose result has a lower PSNR, in dB; None for all.
    """

    degradation: Component
    held_out: int | None = None
    max_side: int = 768
    most: int = 24
    below: float | None = None


NONE = Component("SecondOrder", {"clean_share": 1.0})
SLIGHT = {"type": "GaussianBlur", "sigma": [1.0, 1.0], "noise": [0.0, 0.0]}
EVERYDAY = [
    {"type": "Jpeg", "quality": [10, 10]},
    {"type": "CameraNoise", "sigma": [25.0, 25.0]},
    {"type": "Chain", "steps": [SLIGHT, {"type": "CameraNoise", "sigma": [8.0, 8.0]}]},
    {"type": "Chain", "steps": [SLIGHT, {"type": "Jpeg", "quality": [40, 40]}]},
]
PAGES = {
    "dehaze": Source(Component("Haze"), held_out=4),
    "clear": Source(NONE, held_out=4, max_side=512, most=300, below=ENOUGH),
    "deshadow": Source(Component("Shadow"), held_out=5),
    "denoise": Source(Component("GaussianNoise", {"sigma": [25, 25], "clip": True})),
    "everyday": Source(Component("OneOf", {"choices": EVERYDAY})),
    "blind": Source(Component("SecondOrder")),
}
TASKS = {"clear": "dehaze", "everyday": "blind"}  # of the pages that are not named after their task


def items(
    source: Source, photos: Sequence[Path], kodak: Path, excluded: Container[str] = ()
) -> Iterator[Mapping[str, Any]]:
    """The samples of a page, with the keys `lq`, `gt` and `name`, but not the excluded files."""
    split = {} if source.held_out is None else {"split": "held_out", "held_out": source.held_out}
    data = DATASETS["SyntheticPairs"](
        folders=[kodak] if source.held_out is None else list(photos),
        degradation=source.degradation,
        whole=True,
        max_side=source.max_side,
        **split,
    )
    paths = [(n, path) for n, path in enumerate(data.photos) if path.name not in excluded]
    known = [n for n, path in paths if split or path.stem in KODAK]
    return (data[number] for number in evenly(known, source.most))


def page(
    task: str, samples: Iterator[Mapping[str, Any]], below: float | None = None
) -> Image.Image:
    """The page of a task, the photo with the smallest gain first.

    With a limit `below`, for photos that are not degraded, there are two columns, and the photo
    that changes most comes first.
    """
    restorer, rows, is_clean = load_restorer(task), [], below is not None
    for sample in samples:
        lq, gt = sample["lq"][None], sample["gt"][None]
        result = restorer.restore(lq).clamp(0, 1)
        given, found = psnr(lq, gt).item(), psnr(result, gt).item()
        if below is not None and found >= below:
            continue
        name = sample["name"].rpartition("__")[2]
        columns = [
            ("photo" if is_clean else "degraded", lq, name if is_clean else f"{given:.1f} dB"),
            ("restored", result, f"{found:.1f} dB"),
            ("truth", gt, name),
        ]
        shown = {key: captioned(*rest) for key, *rest in columns[: 2 if is_clean else 3]}
        rows.append((found if is_clean else found - given, shown))
    return contact_sheet([pictures for _, pictures in sorted(rows, key=lambda row: row[0])], SIDE)


def captioned(photo: Tensor, caption: str) -> Image.Image:
    """A photo (1, 3, H, W), float in [0, 1], reduced, above a line of text."""
    picture = reduced(photo, SIDE)
    framed = Image.new("RGB", (picture.width, picture.height + CAPTION), "white")
    framed.paste(picture)
    ImageDraw.Draw(framed).text((2, picture.height + 1), caption, fill="black")
    return framed


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gallery",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--photos", type=Path, nargs="+", required=True, help="the photos of the training")
    add("--kodak", type=Path, required=True, help="17.png to 24.png")
    add("--out", type=Path, required=True, help="folder of the pages")
    add("--task", nargs="+", choices=PAGES, default=list(PAGES), help="pages (default: all)")
    add("--exclude", type=Path, help="a file with the names of photos to leave out of clear")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages."""
    options = build_parser().parse_args(argv)
    left_out = read_exclusions(options.exclude) if options.exclude else frozenset()
    for name in options.task:
        source, excluded = PAGES[name], left_out if name == "clear" else frozenset()
        samples = items(source, options.photos, options.kodak, excluded)
        sheet = page(TASKS.get(name, name), samples, source.below)
        with atomic_write(options.out / f"gallery_{name}.jpg") as aside:
            sheet.save(aside, format="JPEG", quality=82)


if __name__ == "__main__":
    main()
