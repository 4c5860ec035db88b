"""Dehazing compared on several sets of photos: input, classical priors, and any models.

python -m benchmarks.haze_sets --data DATA --model dehaze --model FILE --out OUT restores whole
photos and writes OUT/haze_sets.md (a table), OUT/haze_sets.json (the scores of every photo) and a
contact sheet OUT/SET.jpg per set: input, results, and the truth where there is one. The sets; those
whose folders are missing are left out:

- REVIDE (real smoke) and RESIDE (synthetic haze), with ground truth: the folders hazy and gt of
  DATA/eval/haze_real/REVIDE_samples and DATA/eval/haze_synth_paired/RESIDE_samples;
- photos kept out of training (`SyntheticPairs`, one of four by the SHA-1 of their names), clear and
  with synthetic haze: DATA/train_free and DATA/train_more. For clear photos, the PSNR is that of
  the result against the photo itself. The landscapes among them also with light haze that grows
  with the distance;
- photos with real haze, without ground truth, in contact sheets only: the folders hazy and
  published_result of DATA/eval/haze_natural, and DATA/eval/haze_real_unpaired/NTIRE2020_NHHAZE_val.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.contact_sheet import contact_sheet, reduced
from refusion import load_restorer, read_image
from refusion.config.parser import Component
from refusion.data import DATASETS
from refusion.data.exclusions import read_exclusions
from refusion.errors import ConfigError, RefusionError
from refusion.files import atomic_write
from refusion.images.cache import list_photos
from refusion.metrics import METRICS, score_pair
from refusion.restorers import ColourAttenuation, DarkChannel
from refusion.synthesis.scenes.aerial import is_landscape

PAIRED = {"REVIDE": "haze_real/REVIDE_samples", "RESIDE": "haze_synth_paired/RESIDE_samples"}
UNPAIRED = {
    "natural": ("haze_natural/hazy", "haze_natural/published_result"),
    "NH-HAZE": ("haze_real_unpaired/NTIRE2020_NHHAZE_val", None),
}
TRAINING = ("train_free", "train_more")
CLEAR, HAZY = "clear, kept out", "synthetic haze, kept out"
DISTANT = "haze in the distance, kept out"
DISTANT_HAZE = {"aerial_share": 1.0, "clean_share": 0.0, "mean_transmission": [0.5, 0.9]}
HELD_OUT = 4  # one photo of so many is kept out of training
ENOUGH = 34.0  # dB of the result of a clear photo against the photo; lower values are counted
CAP = 60.0  # dB; in a mean, larger values count as this one; equal photos have an infinite PSNR
ROWS = 40  # of a contact sheet, at most
SCORES = {name: METRICS[name] for name in ("psnr", "ssim")}

Method = Callable[[Tensor], Tensor]
"""Restores photos (1, 3, H, W), float32 in [0, 1]."""


@dataclass(frozen=True)
class Photo:
    """A photo of a set.

    Attributes:
        name: name of its file.
        given: what the methods restore, (1, 3, H, W), float32 in [0, 1].
        truth: what the results are compared with, same shape; None for no scores.
        shown: photo in the last column of the contact sheet; None for none.
        title: title of this column.
    """

    name: str
    given: Tensor
    truth: Tensor | None = None
    shown: Tensor | None = None
    title: str = "truth"


@dataclass(frozen=True)
class Measured:
    """Scores and reduced pictures of one photo.

    Attributes:
        name: name of its file.
        scores: by method, then by metric; empty without ground truth.
        pictures: by column of the contact sheet; empty if it does not show the photo.
    """

    name: str
    scores: dict[str, dict[str, float]]
    pictures: dict[str, Image.Image]

    @property
    def gain(self) -> float:
        """PSNR of the last method minus that of the input, in dB; for a clear photo its PSNR."""
        if not self.scores:
            return 0.0
        result = capped(list(self.scores.values())[-1]["psnr"])
        given = self.scores.get("input", {}).get("psnr", 0.0)
        return result - given if math.isfinite(given) else result


def pairs(hazy: Path, truth: Path | None, *, has_truth: bool) -> Iterator[Photo]:
    """Photos of a folder, and the files of the same stem in another one.

    Args:
        hazy: folder of photos.
        truth: folder of ground truth, or of published results; None for none.
        has_truth: whether the second folder is ground truth.

    Raises:
        ConfigError: a folder or a partner is missing.
        ImageError: a photo cannot be read.
    """
    partners = {} if truth is None else {path.stem: path for path in list_photos([truth], "--data")}
    for path in list_photos([hazy], "--data"):
        if truth is not None and path.stem not in partners:
            raise ConfigError(f"--data: '{truth}' has no photo '{path.stem}'; add it")
        other = read_image(partners[path.stem]).image[None] if truth is not None else None
        given, title = read_image(path).image[None], "truth" if has_truth else "published"
        yield Photo(path.stem, given, other if has_truth else None, other, title)


def kept_out(options: argparse.Namespace, haze: Mapping[str, Any]) -> tuple[Any, list[int]]:
    """Whole photos kept out of training, with `Haze` of these settings, and the chosen numbers.

    Raises:
        ConfigError: the list of names to leave out cannot be read.
    """
    photos = DATASETS["SyntheticPairs"](
        folders=[options.data / name for name in TRAINING],
        degradation=Component("Haze", dict(haze)),
        split="held_out",
        held_out=HELD_OUT,
        whole=True,
        max_side=options.side,
        cache=options.cache,
    )
    excluded = read_exclusions(options.exclude) if options.exclude else frozenset()
    kept = [n for n, path in enumerate(photos.photos) if path.name not in excluded]
    return photos, evenly(kept, options.clear)


def evenly(items: list[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spread.

    >>> evenly([0, 1, 2, 3, 4, 5], 3)
    [0, 2, 4]
    """
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def measure(photos: Iterable[Photo], methods: Mapping[str, Method]) -> list[Measured]:
    """Restore photos with every method; the first method, "input", is the photo itself.

    Args:
        photos: of one set, read one at a time.
        methods: by name.
    """
    rows = []
    for photo in photos:
        scores, pictures = {}, {}
        for name, method in {"input": torch.clone, **methods}.items():
            with torch.no_grad():
                result = method(photo.given)
            if photo.truth is not None:
                scores[name] = score_pair(result, photo.truth, SCORES)
            pictures[name] = reduced(result)
        if photo.shown is not None:
            pictures[photo.title] = reduced(photo.shown)
        rows.append(Measured(photo.name, scores, pictures))
        shown = _shown(rows)
        if len(shown) > ROWS:  # the pictures of hundreds of photos would take gigabytes
            shown[-1].pictures.clear()
    return rows


def _shown(rows: Iterable[Measured]) -> list[Measured]:
    """The photos of the contact sheet, those with the smallest gain first."""
    return sorted((row for row in rows if row.pictures), key=lambda row: row.gain)


def capped(psnr: float) -> float:
    """A PSNR in dB, at most CAP."""
    return min(CAP, psnr)


def cell(name: str, rows: list[Measured], method: str) -> str:
    """Scores of a method on a set, as text: means of PSNR and SSIM, and how many are worse.

    Args:
        name: name of the set.
        rows: its photos.
        method: name of the method, a key of their scores.
    """
    psnr = [row.scores[method]["psnr"] for row in rows]
    mean = fmean(map(capped, psnr))
    if name == CLEAR:
        if method == "input":
            return "-"
        return f"{mean:.2f}, {capped(min(psnr)):.2f}, {sum(one < ENOUGH for one in psnr)}"
    ssim = fmean(row.scores[method]["ssim"] for row in rows)
    if method == "input":
        return f"{mean:.2f} / {ssim:.3f}"
    worse = sum(row.scores[method]["psnr"] < row.scores["input"]["psnr"] for row in rows)
    return f"{mean:.2f} / {ssim:.3f} ({worse})"


def table(results: Mapping[str, list[Measured]]) -> str:
    """Markdown table: a row per set, a column per method."""
    scored = {name: rows for name, rows in results.items() if rows and rows[0].scores}
    methods = list(next(iter(scored.values()))[0].scores) if scored else []
    lines = [f"| set (n) | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for name, rows in scored.items():
        cells = " | ".join(cell(name, rows, method) for method in methods)
        lines.append(f"| {name} ({len(rows)}) | {cells} |")
    notes = (
        "PSNR in dB / SSIM, means; in parentheses the number of photos that are worse than their "
        f"input. Clear photos: mean and lowest PSNR of the result against the photo (at most "
        f"{CAP:g} dB), and the number below {ENOUGH:g} dB."
    )
    return "\n".join([*lines, "", notes])


def write(out: Path, results: Mapping[str, list[Measured]]) -> None:
    """Write the table, the scores and the contact sheets into a folder."""
    with atomic_write(out / "haze_sets.md") as aside:
        aside.write_text(table(results) + "\n", encoding="utf-8")
    scores = {
        name: {row.name: _finite(row.scores) for row in rows if row.scores}
        for name, rows in results.items()
    }
    with atomic_write(out / "haze_sets.json") as aside:
        aside.write_text(json.dumps(scores, indent=1), encoding="utf-8")
    for name, rows in results.items():
        page = contact_sheet([row.pictures for row in _shown(rows)])
        with atomic_write(out / f"{name.replace(',', '').replace(' ', '_')}.jpg") as aside:
            page.save(aside, format="JPEG", quality=85)


def _finite(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Scores for JSON, which lacks infinity: the PSNR of equal photos is null."""
    return {
        method: {key: value if math.isfinite(value) else None for key, value in values.items()}
        for method, values in scores.items()
    }


def sets(options: argparse.Namespace) -> dict[str, Iterable[Photo]]:
    """The sets of a data folder by name; the folders that are missing are left out."""
    root, found = options.data / "eval", {}
    for name, place in PAIRED.items():
        if (root / place).is_dir():
            found[name] = pairs(root / place / "hazy", root / place / "gt", has_truth=True)
    if options.clear and all((options.data / name).is_dir() for name in TRAINING):
        data, chosen = kept_out(options, {})
        found[CLEAR] = (_clear(data[number]) for number in chosen)
        found[HAZY] = (_hazy(data[number]) for number in chosen)
        distant, _ = kept_out(options, DISTANT_HAZE)
        land = (n for n in chosen if is_landscape(read_image(distant.photos[n]).image))
        found[DISTANT] = (_hazy(distant[number]) for number in land)
    for name, (hazy, other) in UNPAIRED.items():
        if (root / hazy).is_dir():
            found[name] = pairs(root / hazy, root / other if other else None, has_truth=False)
    if not found:
        raise ConfigError(f"--data: no set of photos below '{options.data}'; see --help")
    return found


def _clear(item: Mapping[str, Any]) -> Photo:
    photo = item["gt"][None]
    return Photo(item["name"], photo, photo)


def _hazy(item: Mapping[str, Any]) -> Photo:
    truth = item["gt"][None]
    return Photo(item["name"], item["lq"][None], truth, truth)


def methods_of(models: Iterable[str], device: str) -> dict[str, Method]:
    """The two priors and the models; a model is a task with shipped weights, or a file."""
    found: dict[str, Method] = {
        "dark channel": DarkChannel(device=device).restore,
        "colour attenuation": ColourAttenuation(device=device).restore,
    }
    for model in models:
        path = Path(model)
        name = path.parent.name if path.stem == "model" else path.stem
        found[model if name in found else name] = load_restorer(model, device=device).restore
    return found


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.haze_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with eval/, train_free/ and train_more/")
    add("--model", action="append", default=[], help="task or weights file; may be repeated")
    add("--out", type=Path, required=True, help="folder for the table and the contact sheets")
    few = "at most N photos kept out of training; 0: none (default: 300)"
    add("--clear", type=int, default=300, metavar="N", help=few)
    add("--side", type=int, default=1024, metavar="PX", help="their longest side (default: 1024)")
    add("--exclude", type=Path, metavar="FILE", help="names of photos to leave out, one per line")
    add("--only", nargs="+", metavar="SET", help='sets by name, as in the table: "clear, kept out"')
    add("--cache", type=Path, metavar="DIR", help="folder of decoded photos")
    add("--device", default="auto")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, write the files, and show the table."""
    options = build_parser().parse_args(argv)
    try:
        run(options)
    except RefusionError as error:
        raise SystemExit(str(error)) from None


def run(options: argparse.Namespace) -> None:
    """Measure the chosen sets.

    Raises:
        RefusionError: a wrong option, or a photo or a model that cannot be used.
    """
    found = sets(options)
    unknown = set(options.only or ()) - set(found)
    if unknown:
        raise ConfigError(f"--only: no set '{min(unknown)}'; there are {', '.join(found)}")
    methods = methods_of(options.model, options.device)
    results = {}
    for name, photos in found.items():
        if name in (options.only or found) and (rows := measure(photos, methods)):
            results[name] = rows
            write(options.out, results)  # after each set, so that nothing is lost
            sys.stderr.write(f"{name}: {len(rows)} photos\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
