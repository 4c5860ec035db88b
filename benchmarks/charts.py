"""Line charts as PNG, drawn with Pillow, so that a benchmark needs no plotting library.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish. Each
line also has its own marker, for prints without colour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from refusion.errors import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SIZE = (880, 520)  # pixels of the file
SCALE = 3  # the chart is drawn this many times larger and reduced, for smooth edges
PLOT = (84, 56, 850, 454)  # left, top, right, bottom of plotting area and legend
KEY = 36  # length of a line in the legend
INK, GRID, PAPER = "#222222", "#E2E2E2", "#FFFFFF"

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: its name in the legend.
        points: (x, y), sorted by x, finite.
    """

    label: str
    points: tuple[Point, ...]


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers that cover a range: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: smallest value to cover.
        high: largest value to cover; may equal `low`.
        count: approximate number of ticks.

    Returns:
        Ticks in ascending order; the first is at most `low`, the last at least `high`.

    >>> nice_ticks(21.3, 24.1)
    [21.0, 21.5, 22.0, 22.5, 23.0, 23.5, 24.0, 24.5]
    """
    if high <= low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    # Without the margin 0.30000000000000004 would need one more tick.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def line_chart(
    path: str | Path,
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
) -> None:
    """Draw lines with a common x axis that starts at 0 or below, and write a PNG.

    Args:
        path: file to write; its folder is created.
        lines: at most as many as there are `COLOURS`.
        title: text above the chart.
        x_label: text below the x axis.
        y_label: text above the y axis.
        log_x: whether x has a logarithmic scale, from the smallest x; then all x must be above 0.

    Raises:
        ConfigError: too many lines, or no points.
    """
    points = [point for line in lines for point in line.points]
    if not points or len(lines) > len(COLOURS):
        raise ConfigError(
            f"lines: expected 1..{len(COLOURS)} lines with points, got {len(lines)} lines "
            f"with {len(points)} points in all"
        )
    xs, ys = zip(*points, strict=True)
    wide = max(_font(14).getlength(line.label) for line in lines) / SCALE + KEY + 40
    x_ticks = _decades(min(xs), max(xs)) if log_x else nice_ticks(min(0, *xs), max(xs))
    chart = _Chart(x_ticks, nice_ticks(min(ys), max(ys)), PLOT[2] - wide, log_x)
    chart.axes(title, x_label, y_label)
    for number, line in enumerate(lines):
        chart.line(number, line)
    chart.legend([line.label for line in lines])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    chart.canvas.resize(SIZE, Image.Resampling.LANCZOS).save(path, optimize=True)


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, at least two of them, that cover a range above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    all_ticks = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    first = max(tick for tick in all_ticks if tick <= low * (1 + 1e-9))
    last = min(tick for tick in all_ticks if tick >= high * (1 - 1e-9) and tick > first)
    return [tick for tick in all_ticks if first <= tick <= last]


@functools.cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size * SCALE)


@dataclass
class _Chart:
    """A canvas and the conversion from values to its pixels."""

    x_ticks: list[float]
    y_ticks: list[float]
    right: float  # end of the x axis; the legend is to the right of it
    log_x: bool = False
    canvas: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        self.canvas = Image.new("RGB", (SIZE[0] * SCALE, SIZE[1] * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.canvas)

    def place(self, point: Point) -> Point:
        """Pixel (x, y) of the file for a point (x, y)."""
        left, top, _, bottom = PLOT
        scale = math.log if self.log_x else float
        first, x, last = map(scale, (self.x_ticks[0], point[0], self.x_ticks[-1]))
        across = (x - first) / (last - first)
        up = (point[1] - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return left + across * (self.right - left), bottom - up * (bottom - top)

    def axes(self, title: str, x_label: str, y_label: str) -> None:
        """Draw grid, numbers and labels."""
        (left, top, _, bottom), right = PLOT, self.right
        for tick in self.y_ticks:
            _, y = self.place((self.x_ticks[0], tick))
            self._stroke([(left, y), (right, y)], GRID, 1)
            self._text((left - 10, y), _number(tick, self.y_ticks), "rm")
        for tick in self.x_ticks:
            x, _ = self.place((tick, self.y_ticks[0]))
            self._stroke([(x, bottom), (x, bottom + 5)], INK, 1)
            self._text((x, bottom + 10), _number(tick, self.x_ticks), "ma")
        self._stroke([(left, bottom), (right, bottom)], INK, 1)
        self._text((left, 12), title, "la", 17)
        self._text((left - 10, top - 12), y_label, "rs")
        self._text((right, SIZE[1] - 12), x_label, "rs")

    def line(self, number: int, line: Line) -> None:
        """Draw one line with a marker at each of its points."""
        places = [self.place(point) for point in line.points]
        self._stroke(places, COLOURS[number], 2)
        for place in places:
            self._marker(place, number)

    def legend(self, labels: Sequence[str]) -> None:
        """Draw the legend to the right of the lines."""
        left = self.right + 30
        for number, label in enumerate(labels):
            y = PLOT[1] + 26 * number + 8
            self._stroke([(left, y), (left + KEY, y)], COLOURS[number], 2)
            self._marker((left + KEY / 2, y), number)
            self._text((left + KEY + 10, y), label, "lm")

    def _stroke(self, places: Sequence[Point], colour: str, width: float) -> None:
        flat = [(x * SCALE, y * SCALE) for x, y in places]
        self.draw.line(flat, colour, round(width * SCALE), joint="curve")

    def _text(self, place: Point, text: str, anchor: str, size: int = 14) -> None:
        at = (place[0] * SCALE, place[1] * SCALE)
        self.draw.text(at, text, INK, _font(size), anchor=anchor)

    def _marker(self, place: Point, number: int) -> None:
        """Draw the marker of a line: a disc for the first line, else a regular polygon."""
        corners = (40, 4, 3, 5, 6, 8, 7)[number]
        circle = (place[0] * SCALE, place[1] * SCALE, 5 * SCALE)
        self.draw.regular_polygon(circle, corners, fill=COLOURS[number], outline=PAPER)


def _number(value: float, ticks: Sequence[float]) -> str:
    """A tick as text, with the decimals that the distance of the ticks needs."""
    step = ticks[1] - ticks[0]
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
