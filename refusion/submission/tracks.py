"""The rules of each challenge track, in one table; a new track is an entry of `TRACKS`.

The rules are those of the challenges' CodaLab pages, as participants quote them in public code. If
the rule of a server is not confirmed, `Track.source` says so. Before you upload an entry, read the
page of your phase of the challenge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

README = "readme.txt"


@dataclass(frozen=True)
class Line:
    """One line `key : value` of the readme.

    Attributes:
        key: text before the colon, as the server expects it.
        fact: field of `Facts` that gives the value.
        kind: 'number' (not negative), 'flag' (0 or 1) or 'text' (not empty).
    """

    key: str
    fact: str
    kind: Literal["number", "flag", "text"]

    def accepts(self, value: str) -> bool:
        """Whether the text is a value of this kind."""
        return _KINDS[self.kind](value)


# Quoted in CodaLab texts of NTIRE tracks since 2017; "runtime per frame" and other flags occur.
STANDARD = (
    Line("runtime per image [s]", "runtime", "number"),
    Line("CPU[1] / GPU[0]", "is_cpu", "flag"),
    Line("Extra Data [1] / No Extra Data [0]", "extra_data", "flag"),
    Line("Other description", "description", "text"),
)


@dataclass(frozen=True)
class Track:
    """Rules of a track.

    Attributes:
        output: file name of an output; '{stem}' is the name of its input without the last suffix.
        source: where the rules come from.
        scale: side of an output divided by that of its input.
        may_have_alpha: whether an output may have an opaque alpha channel if its input has alpha.
        extra_data: whether data beside the track's own may be used for training.
        readme: lines of the readme, in their order.
    """

    output: str
    source: str
    scale: int = 1
    may_have_alpha: bool = False
    extra_data: bool = True
    readme: tuple[Line, ...] = STANDARD

    @property
    def format(self) -> str:
        """Format of the outputs, by their suffix: 'PNG' or 'JPEG'."""
        return "PNG" if self.output.endswith(".png") else "JPEG"


TRACKS = {
    "deshadow": Track(
        "{stem}.png",
        "NTIRE Image Shadow Removal 2023 (CodaLab 10253), 2024 (17539, 17546), 2025: 0000.png, ...",
    ),
    "dehaze": Track(
        "{stem}.png",
        "NTIRE HR NonHomogeneous Dehazing 2023 (CodaLab 10216), Dense and NonHomogeneous Dehazing "
        "2024 (17529): named as the inputs, some of which are RGBA with an opaque alpha",
        may_have_alpha=True,
    ),
    "bokeh": Track(
        "{stem}_out.jpg",
        "NTIRE Bokeh Effect Transformation 2023 (CodaLab 10229): inputs 00000.src.jpg; the "
        "outputs' 00000.src_out.jpg is what a published entry writes, the server's rule is not "
        "confirmed",
    ),
    "stereo_sr": Track(
        "{stem}.png",
        "NTIRE Stereo Image Super-Resolution 2022 to 2024 (CodaLab 10047, 17245): 0001_L.png and "
        "0001_R.png four times as large, neither extra data nor pretrained models",
        scale=4,
        extra_data=False,
    ),
}


def _is_number(value: str) -> bool:
    try:
        return 0 <= float(value) < float("inf")
    except ValueError:
        return False


_KINDS: dict[str, Callable[[str], bool]] = {
    "number": _is_number,
    "flag": lambda value: value in ("0", "1"),
    "text": bool,
}
