"""Shadow removal in numbers and pictures: pairs by the number of network calls, and other photos.

    python -m benchmarks.shadow_sets --weights deshadow --pairs UIUC=SHADOW:CLEAR --clean FOLDER

restores whole photos and prints, for each set of pairs, the PSNR of the input, of a threshold in
Lab (benchmarks/lab_shadows.py) and of the result after 1, 3, 10 and 100 network calls, the lowest
gain, and the change of the areas without shadow in 8-bit levels (benchmarks/untouched.py). FOLDER
has photos without cast shadows, which should stay as they are: the program prints the mean and the
lowest PSNR of the result to the photo itself, and how many photos are below 30 and 40 dB, for the
model and for the threshold. --sheet FILE writes a picture of all pairs: input, result and
truth. --below FILE writes the photos of FOLDER that change most, each beside its result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.contact_sheet import contact_sheet, reduced
from benchmarks.lab_shadows import remove_shadows
from benchmarks.untouched import measure
from refusion import load_restorer
from refusion.data import DATASETS
from refusion.errors import ConfigError, RefusionError
from refusion.evaluation.scoring import Photos, Score, evaluate
from refusion.metrics import METRICS, psnr
from refusion.restorers import Restorer

CALLS = (1, 3, 10, 100)
CAP = 60.0  # dB; in a mean, larger values count as this one; equal photos have an infinite PSNR
LIMITS = (30.0, 40.0)  # dB; photos without cast shadows below these values are counted
SHOWN = 40  # photos of --below
PSNR = {"psnr": METRICS["psnr"]}


class Unchanged:
    """The photos of a folder as pairs: each photo is its own truth.

    Args:
        folder: folder of photos.
        max_side: longest side in pixels; longer photos are reduced. None for no limit.
    """

    def __init__(self, folder: Path, max_side: int | None = None) -> None:
        self.photos = DATASETS["PairedFolder"](lq=folder, gt=None, max_side=max_side)

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One photo with the keys "lq", "gt" and "name"."""
        item = self.photos[index]
        return item | {"gt": item["lq"]}


def pairs_row(restorer: Restorer, name: str, pairs: Photos, calls: Sequence[int]) -> str:
    """A line of the table: means over a set of pairs.

    Args:
        restorer: what restores.
        name: of the set.
        pairs: items with "lq" and "gt".
        calls: numbers of network calls.
    """
    found = [evaluate(restorer, pairs, metrics=PSNR, steps=count) for count in calls]
    rows = found[0].rows
    gain = min(row.difference["psnr"] for row in rows)
    changes = []
    for item in (pairs[number] for number in range(len(pairs))):
        share, change = measure(restorer, item["lq"][None], item["gt"][None])
        changes += [change] if share > 0 else []
    lit = f"{fmean(changes):.2f}" if changes else "-"
    results = [f"{one.mean.result['psnr']:.2f}" for one in found]
    given, classical = f"{found[0].mean.input['psnr']:.2f}", fmean(lab_scores(pairs).values())
    cells = [name, str(len(rows)), given, f"{classical:.2f}", *results, f"{gain:+.2f}", lit]
    return f"| {' | '.join(cells)} |"


def lab_scores(pairs: Photos) -> dict[str, float]:
    """PSNR of the results of the threshold in Lab, by the name of the photo."""
    items = (pairs[number] for number in range(len(pairs)))
    return {
        item["name"]: float(psnr(remove_shadows(item["lq"][None]), item["gt"][None]))
        for item in items
    }


def clean_line(method: str, found: Mapping[str, float]) -> str:
    """Text on photos without cast shadows, from the PSNR of their results by name."""
    capped = [min(value, CAP) for value in found.values()]
    counts = [f"{sum(value < limit for value in capped)} below {limit:.0f} dB" for limit in LIMITS]
    worst = min(found, key=lambda name: found[name])
    lowest = f"lowest {found[worst]:.2f} ({worst})"
    mean = f"mean {fmean(capped):.2f} dB"
    return f"{method}, {len(found)} photos: {mean}, {lowest}, {', '.join(counts)}"


def sheet(restorer: Restorer, sets: dict[str, Photos]) -> Image.Image:
    """A picture of all pairs, one per row, with the results of the default number of calls."""
    rows = []
    for pairs in sets.values():
        for item in (pairs[number] for number in range(len(pairs))):
            lq, gt = item["lq"][None], item["gt"][None]
            result = restorer.restore(lq)
            rows.append({"input": reduced(lq), "result": reduced(result), "truth": reduced(gt)})
    return contact_sheet(rows)


def worst_sheet(restorer: Restorer, photos: Photos, rows: Sequence[Score]) -> Image.Image:
    """The photos with the lowest PSNR, each beside its result, four to a row."""
    order = sorted(range(len(rows)), key=lambda number: rows[number].result["psnr"])[:SHOWN]
    shown: list[tuple[str, Tensor]] = []
    for number in order:
        photo = photos[number]["lq"][None]
        shown += [("photo", photo), ("result", restorer.restore(photo))]
    lines = [shown[start : start + 8] for start in range(0, len(shown), 8)]
    return contact_sheet(
        [
            {
                f"{title} {place // 2 + 1}": reduced(image)
                for place, (title, image) in enumerate(line)
            }
            for line in lines
        ]
    )


def folder_pair(text: str) -> tuple[str, Photos]:
    """NAME=SHADOW:CLEAR as a name and a dataset of whole pairs."""
    name, _, folders = text.partition("=")
    lq, _, gt = folders.partition(":")
    if not (name and lq and gt):
        raise ConfigError(f"--pairs: expected NAME=SHADOW:CLEAR, got {text!r}")
    return name, DATASETS["PairedFolder"](lq=lq, gt=gt)


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default="deshadow", metavar="TASK|FILE", help="the model (default deshadow)")
    add("--pairs", nargs="+", default=[], metavar="NAME=SHADOW:CLEAR", help="folders of pairs")
    add("--clean", type=Path, metavar="DIR", help="photos without cast shadows")
    add("--max-side", type=int, metavar="PX", help="reduce longer photos of --clean to this side")
    add("--calls", nargs="+", type=int, default=CALLS, metavar="N", help="network calls per photo")
    add("--sheet", type=Path, metavar="FILE", help="write a picture of all pairs")
    add("--below", type=Path, metavar="FILE", help="write a picture of the photos that change most")
    add("--precision", default="auto", metavar="NAME", help="number format (default auto)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write the pictures."""
    options = build_parser().parse_args(argv)
    settings: dict[str, Any] = {"device": options.device, "precision": options.precision}
    restorer = load_restorer(options.weights, **settings)
    sets = dict(folder_pair(text) for text in options.pairs)
    if sets:
        calls = [f"{count} calls" if count > 1 else "1 call" for count in options.calls]
        head = [
            "set",
            "n",
            "input",
            "threshold in Lab",
            *calls,
            "lowest gain",
            "change of lit areas",
        ]
        sys.stdout.write(f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n")
    for name, pairs in sets.items():
        sys.stdout.write(f"{pairs_row(restorer, name, pairs, options.calls)}\n")
        sys.stdout.flush()
    if options.sheet is not None and sets:
        sheet(restorer, sets).save(options.sheet)
    if options.clean is not None:
        photos = Unchanged(options.clean, options.max_side)
        rows = evaluate(restorer, photos, metrics=PSNR).rows
        found = {row.name: row.result["psnr"] for row in rows}
        sys.stdout.write(f"{clean_line(options.weights, found)}\n")
        sys.stdout.write(f"{clean_line('threshold in Lab', lab_scores(photos))}\n")
        if options.below is not None:
            worst_sheet(restorer, photos, rows).save(options.below)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    try:
        main()
    except RefusionError as failure:
        sys.exit(f"error: {failure}")
