import numpy as np
import pytest
from PIL import Image

from benchmarks.charts import COLOURS, SIZE, Line, line_chart, nice_ticks
from refusion.errors import ConfigError


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (21.3, 24.1), (-3, 7000), (0, 14000), (0.1, 0.3), (1e-5, 3e-5), (5, 5)],
)
def test_ticks_cover_the_range_in_equal_round_steps(low, high):
    ticks = nice_ticks(low, high)
    steps = np.diff(ticks)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert np.allclose(steps, steps[0])
    assert 2 <= len(ticks) <= 10
    digits = f"{steps[0]:.6e}"[0]
    assert digits in "125"


def test_no_tick_is_wasted_on_a_range_that_ends_at_one():
    assert nice_ticks(0, 0.3, 4) == [0.0, 0.1, 0.2, 0.3]
    assert nice_ticks(0, 2000) == [0.0, 500.0, 1000.0, 1500.0, 2000.0]


def pixels_of(path, colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    with Image.open(path) as image:
        return np.argwhere(np.abs(np.asarray(image).astype(int) - rgb).max(axis=2) < 40)


def draw(path, *lines):
    line_chart(path, lines, title="title", x_label="steps", y_label="PSNR / dB")
    return path


def test_lines_lie_where_their_values_are(tmp_path):
    rising = Line("rising", ((0, 0.0), (10, 1.0)))
    falling = Line("falling", ((0, 1.0), (10, 0.0)))
    path = draw(tmp_path / "new" / "chart.png", rising, falling)
    with Image.open(path) as image:
        assert image.size == SIZE
    for colour, sign in zip(COLOURS, (-1, 1), strict=False):
        places = pixels_of(path, colour)
        places = places[places[:, 1] < 600]  # without the legend
        assert len(places) > 300
        # Rows count downwards, so that a rising line falls in the picture.
        assert np.sign(np.corrcoef(places.T)[0, 1]) == sign
        assert abs(np.corrcoef(places.T)[0, 1]) > 0.99


def test_the_legend_hides_no_line(tmp_path):
    """The corners of the plot stay as they are however long the labels."""
    falling = Line("a label of some length", ((0, 1.0), (10, 0.0)))
    places = pixels_of(draw(tmp_path / "a.png", falling), COLOURS[0])
    shown = places[places[:, 0] > 400]  # below the legend: the line alone, down to the x axis
    assert shown[:, 0].max() == pytest.approx(454, abs=6)
    assert np.ptp(shown[:, 1]) > 40


def test_on_a_logarithmic_axis_equal_factors_are_equal_distances(tmp_path):
    line = Line("x", ((1, 0.0), (10, 1.0), (100, 2.0)))
    path = tmp_path / "log.png"
    line_chart(path, [line], title="t", x_label="calls", y_label="y", log_x=True)
    places = pixels_of(path, COLOURS[0])
    places = places[places[:, 1] < 600]
    assert abs(np.corrcoef(places.T)[0, 1]) > 0.999  # one straight line
    assert places[:, 1].min() == pytest.approx(84, abs=8)


def test_all_lines_of_a_chart_look_different(tmp_path):
    lines = [Line(str(n), ((0, n), (1, n))) for n in range(len(COLOURS))]
    path = draw(tmp_path / "many.png", *lines)
    assert all(len(pixels_of(path, colour)) > 100 for colour in COLOURS)


def test_a_chart_without_points_or_with_too_many_lines_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 points"):
        draw(tmp_path / "none.png", Line("empty", ()))
    with pytest.raises(ConfigError, match="got 8 lines"):
        draw(tmp_path / "many.png", *[Line("x", ((0, 0),))] * 8)
