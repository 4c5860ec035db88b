"""A training folder of landscapes without the haze that they have in the distance.

python -m benchmarks.landscapes FOLDER [FOLDER ...] --misty misty.txt --out DIR fills DIR with the
photos of the folders under their names. Photos that the list names (see `benchmarks.misty`) are
changed: where the dark channel shows the distance of a landscape, 0.6 of the optical depth that it
shows is removed; the others are left out. A model that is trained on these photos learns that a
pale distance is haze. All other photos become links to the files.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from refusion import read_image, write_image
from refusion.data.exclusions import read_exclusions
from refusion.images.cache import list_photos
from refusion.images.resize import shrink
from refusion.images.samples import to_float
from refusion.sde.scattering import Scattering
from refusion.synthesis.scenes.aerial import optical_depth, shows_distance

SIDE = 448  # longest side in pixels of the copy that shows the depth
SHARE = 0.6  # of the optical depth that is removed
LARGEST = 1.2  # optical depth; the sky would become too dark


def clear_landscape(photo: Tensor) -> Tensor | None:
    """The photo without most of the haze in the distance; None if it shows no distance.

    Args:
        photo: (1, 3, H, W), float in [0, 1].

    Returns:
        (1, 3, H, W) in [0, 1].
    """
    tau, airlight = optical_depth(shrink(photo, SIDE)[0])
    if not shows_distance(tau):
        return None
    size = (photo.shape[-2], photo.shape[-1])
    tau = F.interpolate(tau.clamp_max(LARGEST)[None, None], size, mode="bilinear") * SHARE
    return Scattering(tau, airlight.view(1, 3, 1, 1)).clear(photo).clamp(0, 1)


def main(argv: list[str] | None = None) -> int:
    """Fill the folder and print how many photos are changed and left out; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--misty", type=Path, required=True, help="list of photos with haze")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    options = parser.parse_args(argv)
    misty, counts = read_exclusions(options.misty), {"changed": 0, "left out": 0, "linked": 0}
    if options.out.exists():
        parser.error(f"--out: {options.out} exists; name a new folder")
    photos = list_photos(options.folders)
    twice = [name for name, count in Counter(path.name for path in photos).items() if count > 1]
    if twice:
        parser.error(f"{twice[0]}: several photos have this name; rename all but one")
    options.out.mkdir(parents=True)
    for path in photos:
        target = options.out / path.name
        if path.name not in misty:
            target.symlink_to(path.resolve())
            counts["linked"] += 1
            continue
        photo = to_float(read_image(path).image[None])
        clear = clear_landscape(photo) if photo.shape[1] == 3 else None
        if clear is not None:
            write_image(target, clear[0])
        counts["left out" if clear is None else "changed"] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
