"""The measure of natural mist: its statistics by hand, order of photos, the list."""

import sys

import pytest
import torch
from PIL import Image

from benchmarks import misty
from refusion.images.io import read_image, write_image


def landscape(transmission=1.0, size=(128, 192)):
    """Dark ridges below a bright sky; the farther up, the more haze, to this transmission."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = size[0] // 4, size[1]
    ridges = torch.rand(1, 3, 3 * rows // 8, columns // 8, generator=generator).pow(2) * 0.5
    ridges = ridges.repeat_interleave(8, 2).repeat_interleave(8, 3)
    t = torch.linspace(transmission, 1, 3 * rows).view(-1, 1)
    sky = torch.full((1, 3, rows, columns), 0.85)
    return torch.cat([sky, ridges * t + 0.85 * (1 - t)], dim=2)


def named(photo):
    return dict(zip(misty.STATISTICS, misty.statistics(photo).tolist(), strict=True))


def test_statistics_of_a_photo_by_hand():
    """Bright rows above, below them vertical stripes of 0.2 and 0.5; a dark last row."""
    photo = torch.full((1, 3, 90, 120), 0.8)
    stripes = torch.tensor([0.2, 0.5]).repeat_interleave(10).repeat(6)
    photo[..., 30:, :] = stripes
    photo[..., 89, :] = 0.1
    found = named(photo)
    assert found["brightness of the upper third"] == pytest.approx((30 * 0.8 + 0.35) / 31)
    assert found["dark side of edges, median"] == pytest.approx(0.2)
    assert found["contrast of edges"] == pytest.approx(0.6, abs=1e-6)
    assert found["share with a veil below the upper third"] == pytest.approx(44 / 60)
    assert found["share of rows darker than the row above"] == pytest.approx(2 / 89)
    assert 0.2 < found["share of flat areas"] < 0.5


def test_mist_raises_the_value():
    values = [misty.mistiness(landscape(t)) for t in (1.0, 0.6, 0.2)]
    assert values == sorted(values)
    assert values[1] < misty.LEAST < values[2]


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 2)])
def test_photos_without_edges_have_a_value(size):
    value = misty.mistiness(torch.full((1, 3, *size), 0.5))
    assert value == pytest.approx(value)
    assert abs(value) < 20


def test_size_and_dtype_hardly_matter():
    photo = landscape(0.5, (512, 768))
    half = torch.nn.functional.avg_pool2d(photo, 2)
    assert misty.mistiness(photo) == pytest.approx(misty.mistiness(half), abs=0.5)
    levels = (photo * 255).round().to(torch.uint8)
    assert misty.mistiness(photo) == pytest.approx(misty.mistiness(levels), abs=0.1)


def test_list_has_names_with_values_above_them(tmp_path, monkeypatch, capsys):
    values = {}
    for name, t in (("clear", 1.0), ("mist", 0.2)):
        write_image(tmp_path / f"{name}.png", landscape(t)[0], None)
        values[name] = misty.mistiness(read_image(tmp_path / f"{name}.png").image[None])
    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
    least = (values["clear"] + values["mist"]) / 2
    monkeypatch.setattr(sys, "argv", ["misty", str(tmp_path), "--least", str(least)])
    misty.main()
    assert capsys.readouterr().out == f"# {values['mist']:.2f}\nmist.png\n"
