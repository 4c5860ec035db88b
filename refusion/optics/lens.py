"""Lens names of the bokeh data and the numbers that the camera-aware network takes for them."""

from __future__ import annotations

import math
import re

from refusion.errors import ConfigError

_LENS = re.compile(r"(Sony|Canon)50mmf(\d+(?:\.\d+)?)BS")


def lens_number(name: str) -> float:
    """Ten times the f-number, negative for a Canon: the coding of the published bokeh models.

    >>> lens_number("Sony50mmf1.8BS"), lens_number("Canon50mmf1.4BS")
    (18.0, -14.0)

    Args:
        name: as `meta.txt` writes it; maker Sony or Canon, 50 mm, any f-number.

    Raises:
        ConfigError: another form, maker or focal length.
    """
    found = _LENS.fullmatch(name)
    if found is None or float(found[2]) == 0:
        raise ConfigError(
            f"lens '{name}': expected Sony or Canon, 50mm and an f-number, such as "
            "Sony50mmf1.8BS or Canon50mmf1.4BS"
        )
    return (-10 if found[1] == "Canon" else 10) * float(found[2])


def lens_between(source: float, target: float, share: float) -> float:
    """Number of the lens of the target's maker that blurs a share of the way as much.

    Radii of discs go with the opening, one over the f-number.

    Args:
        source: number of a lens, not 0, as `target`.
        target: see `source`.
        share: 0..1.

    >>> round(lens_between(20.0, -10.0, 0.5), 3)
    -13.333
    """
    opening = (1 - share) / abs(source) + share / abs(target)
    return math.copysign(1 / opening, target)
