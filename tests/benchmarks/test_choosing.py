"""The benchmark of all restorers runs, and its table says what was measured."""

import pytest

from benchmarks import choosing
from refusion.images.io import read_image


def options(*texts):
    return choosing.build_parser().parse_args([str(text) for text in texts])


def test_the_table_holds_medians_per_megapixel():
    costs = {"dark channel": [choosing.Cost(4.0, 1.0), choosing.Cost(9.0, 3.0)] * 2}
    costs["dark channel"].append(choosing.Cost(5.0, 2.0))
    lines = choosing.table(costs, 2.0).splitlines()
    assert lines[0] == "| restorer | calls | s per MP | GB at 2 MP |"
    assert lines[2] == "| dark channel | 0 | 2.50 | 2.00 |"


def test_only_what_has_its_files_is_measured(tmp_path):
    plain = choosing.chosen(options())
    assert "dark channel" in plain and "DDRM" in plain and "OSEDiff, merged" not in plain
    assert "OSEDiff, merged" in choosing.chosen(options("--sd", "x", "--lora", "y"))


@pytest.mark.parametrize("method", ["Refusion, as shipped", "DDRM", "dark channel"])
def test_a_photo_is_measured_and_kept(tmp_path, method):
    photo = tmp_path / "photo.jpg"
    choosing.write_photo(None, 0.005, photo)
    cost = choosing.measure(
        options("--method", method, "--photo", photo, "--pictures", tmp_path / "made")
    )
    assert cost.seconds > 0 and 0 < cost.gigabytes < 100
    (made,) = (tmp_path / "made").glob("*.png")
    assert read_image(made).image.shape == read_image(photo).image.shape
