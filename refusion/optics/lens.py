"""Lens names of the bokeh data, and the lens numbers that the bokeh network takes as input."""

from __future__ import annotations

import math
import re

from refusion.errors import ConfigError

_LENS = re.compile(r"(Sony|Canon)50mmf(\d+(?:\.\d+)?)BS")


def lens_number(name: str) -> float:
    """Convert a lens name to its number: ten times the f-number, negative for Canon.

    The published bokeh models use this encoding.

    >>> lens_number("Sony50mmf1.8BS"), lens_number("Canon50mmf1.4BS")
    (18.0, -14.0)

    Args:
        name: as in `meta.txt`; maker Sony or Canon, 50 mm, any f-number.

    Raises:
        ConfigError: the name has another format, maker or focal length.
    """
    found = _LENS.fullmatch(name)
    if found is None or float(found[2]) == 0:
        raise ConfigError(
            f"lens '{name}': expected Sony or Canon, 50mm and an f-number, such as "
            "Sony50mmf1.8BS or Canon50mmf1.4BS"
        )
    return (-10 if found[1] == "Canon" else 10) * float(found[2])


def lens_between(source: float, target: float, share: float) -> float:
    """Interpolate between two lenses, linear in the aperture (1 / f-number).

    The blur radius is proportional to the aperture. The result has the maker of `target`.

    Args:
        source: lens number, not 0.
        target: lens number, not 0.
        share: weight of `target`, 0..1.

    >>> round(lens_between(20.0, -10.0, 0.5), 3)
    -13.333
    """
    opening = (1 - share) / abs(source) + share / abs(target)
    return math.copysign(1 / opening, target)
