"""Crops at 100 %: the pixels of the photo and of the result, row by row."""

import pytest
import torch
from PIL import Image

from benchmarks import crops
from refusion.errors import ConfigError
from refusion.images.io import write_image


class Negative:
    """Restores a photo to its negative, and counts."""

    calls = 0

    def restore(self, photo):
        self.calls += 1
        return 1 - photo


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "SIDE", (8, 4))
    write_image(tmp_path / "a@b.png", torch.rand(3, 30, 40))
    return tmp_path / "a@b.png"


def test_rows_show_the_pixels_of_photo_and_result(photo, monkeypatch):
    restorer = Negative()
    monkeypatch.setattr(crops, "load_restorer", lambda task: restorer)
    page = crops.sheet("dehaze", [(photo, 3, 5), (photo, 32, 26)])
    assert page.size == (2 * 8 + crops.GAP, 2 * 4 + crops.GAP)
    assert restorer.calls == 1
    with Image.open(photo) as file:
        whole = file.copy()
    for top, (x, y) in ((0, (3, 5)), (4 + crops.GAP, (32, 26))):
        part = whole.crop((x, y, x + 8, y + 4))
        assert page.crop((0, top, 8, top + 4)).tobytes() == part.tobytes()
        right = page.crop((8 + crops.GAP, top, 16 + crops.GAP, top + 4))
        assert right.tobytes() == part.point(lambda level: 255 - level).tobytes()


def test_the_command_writes_a_sheet(photo, monkeypatch, tmp_path):
    monkeypatch.setattr(crops, "load_restorer", lambda task: Negative())
    crops.main([str(tmp_path / "out.jpg"), f"{photo}@1,2", f"{photo}@0,0"])
    with Image.open(tmp_path / "out.jpg") as page:
        assert page.size == (16 + crops.GAP, 8 + crops.GAP)


def test_a_crop_outside_of_the_photo_is_refused(photo, monkeypatch):
    monkeypatch.setattr(crops, "load_restorer", lambda task: Negative())
    with pytest.raises(ConfigError, match=r"8x4 pixels in .*a@b\.png \(40x30\), got 33,0"):
        crops.sheet("dehaze", [(photo, 33, 0)])


@pytest.mark.parametrize("text", ["a.png", "a.png@1", "@1,2", "a.png@-1,2", "a.png@1,2,3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match="expected PHOTO@x,y"):
        crops.place_of(text)
