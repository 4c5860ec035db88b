"""Methods for bokeh on photos with real depth, compared with the reference renderer.

python benchmarks/bokeh_scenes.py PHOTO MAP [PHOTO MAP ...] renders each photo through both lenses
by its disparity map. The photos must be in focus everywhere. The model transforms the image of the
source lens into that of the target lens. The maps are measured or estimated; they do not come from
the synthetic depth of the training data. A disc of its own radius for each pixel is the baseline
(benchmarks/disc_blur.py). `BokehRenderer` is what `refusion bokeh` takes to add blur. It is the
renderer of the reference itself, applied to the image of the source lens, so its score says how
much that image differs from one in focus everywhere, and not how real lenses look.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.disc_blur import disc_blur
from refusion.batch.disparity_maps import BLUR, fitted_bands
from refusion.evaluation.scoring import evaluate
from refusion.images.io import read_image
from refusion.images.resize import shrink
from refusion.metrics import METRICS
from refusion.optics.defocus import LARGEST, blur_radius, decode_defocus, encode_defocus
from refusion.optics.disparity import defocus_of, read_disparity
from refusion.optics.lens import lens_number
from refusion.restorers import BokehRenderer, Conditions, load_restorer
from refusion.synthesis.degradations.bokeh import photograph

HIGHLIGHTS = 2.5  # light of clipped pixels: the middle of the training range


class Scenes:
    """Rendered pairs, a dataset for `evaluate`."""

    def __init__(self, options: argparse.Namespace) -> None:
        files = options.files
        self.files, self.options = list(zip(files[::2], files[1::2], strict=True)), options

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The pair of one photo, its lenses and its guide."""
        (photo, place), options = self.files[index], self.options
        clean = shrink(read_image(photo).samples[None], options.max_side)
        disparity = read_disparity(place, zero_is_unknown=options.zero_unknown)
        bands = fitted_bands(defocus_of(disparity, options.focus), clean)
        defocus = torch.cat([band for _, band in bands])
        lenses = (lens_number(name) for name in (options.source, options.target))
        lens = (*lenses, options.blur * max(clean.shape[-2:]))
        name = f"{photo.parent.name}/{photo.stem}"
        return photograph(clean[0], defocus, lens, HIGHLIGHTS) | {"name": name}


def rendered(photo: Tensor, conditions: Conditions) -> Tensor:
    """The photo (1, 3, H, W) with added blur, from the guide and the lenses of a model."""
    lens = conditions.lens.flatten()
    guide = conditions.guide.reshape(-1, *photo.shape[-2:])[1:]
    largest = blur_radius(float(lens[1]), float(lens[2]))
    relative = encode_defocus(decode_defocus(guide) * LARGEST / largest)
    return BokehRenderer().restore(photo, conditions=Conditions(lens=lens, guide=relative))


def run(argv: Sequence[str]) -> str:
    """Tables of the scores of whole photos and of the areas in focus."""
    options = build_parser().parse_args(argv)
    scenes, sharp = Scenes(options), []

    def look(name: str, restored: Tensor) -> None:
        item = scenes[len(sharp)]
        is_sharp = item["guide"][1] == 0.5
        changes = [
            255 * float((image - item["gt"]).abs().mean(0)[is_sharp].mean())
            for image in (item["lq"], restored)
        ]
        share = float(is_sharp.float().mean())
        sharp.append(f"{name}: {share:.0%}, {changes[0]:.2f}, {changes[1]:.2f}")

    restorer = load_restorer(options.weights, precision=options.precision)
    found = evaluate(
        restorer, scenes, write=look, baselines={"disc blur": disc_blur, "renderer": rendered}
    )
    tables = found.table(), "", found.methods_table(METRICS)
    head = "in focus: share of the photo, mean difference of input and result in 8-bit levels"
    return "\n".join([*tables, "", head, *sharp, ""])


def build_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="PHOTO MAP", help="photos, each followed by its map")
    add("--weights", default="bokeh", help="task or file")
    add("--source", default="Sony50mmf16.0BS")
    add("--target", default="Canon50mmf1.4BS")
    add("--blur", type=float, default=BLUR, help="largest radius at f/1.8 per long side")
    add("--focus", type=float, nargs=2, metavar=("X", "Y"))
    add("--max-side", type=int, default=1024, help="longer photos are reduced to this side")
    add("--zero-unknown", action="store_true", help="0 in the maps means: not measured")
    add("--precision", default="auto")
    return parser


if __name__ == "__main__":
    sys.stdout.write(run(sys.argv[1:]))
