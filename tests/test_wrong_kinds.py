"""Arguments of the public functions that are of a wrong kind give one line, never a traceback."""

import numpy as np
import pytest
import torch

import refusion
from refusion.errors import RefusionError

OPTIONS = "options/toy.yml"
PHOTO = "examples/hazy-coast.jpg"
WRONG = [3, -1.5, True, [], {}, object(), 1j, torch.zeros(2), np.zeros(3), 10**30, "x" * 5000]
IMAGE = torch.zeros(3, 8, 8)


class Same:
    def restore(self, lq, **_):
        return lq


def one_line(function, *arguments, **options):
    with pytest.raises(RefusionError, match=r"^[^\n]+$") as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("wrong", [None, "", b"x", *WRONG], ids=lambda wrong: repr(wrong)[:20])
def test_what_is_no_path(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (refusion.load_config, refusion.load_restorer, refusion.read_image):
        one_line(read, wrong)
    one_line(refusion.write_image, wrong, IMAGE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
def test_arguments_of_a_wrong_kind(wrong, tmp_path):
    file = tmp_path / "a.png"
    one_line(refusion.write_image, file, wrong)
    assert not file.exists()
    one_line(refusion.load_config, OPTIONS, [wrong])
    one_line(refusion.load_restorer, "blind", device="cpu", precision=wrong)
    one_line(refusion.IRSDE, max_sigma=50, schedule=wrong)
    one_line(refusion.evaluate, wrong, [{"lq": IMAGE}])
    one_line(refusion.evaluate, Same(), wrong)
    one_line(refusion.evaluate, Same(), [wrong])
    if not isinstance(wrong, list | dict):
        one_line(refusion.load_restorer, "blind", device="cpu", plugins=wrong)
        one_line(refusion.load_config, OPTIONS, wrong)
    if not isinstance(wrong, int | float) or wrong is True:
        one_line(refusion.write_image, file, IMAGE, wrong)
        one_line(refusion.load_restorer, "blind", device="cpu", memory=wrong)
        one_line(refusion.read_image, PHOTO, max_pixels=wrong)
        one_line(refusion.IRSDE, max_sigma=wrong)
        one_line(refusion.IRSDE, max_sigma=50, eps=wrong)
        one_line(refusion.IRSDE, max_sigma=50, T=wrong)
    if not isinstance(wrong, int):
        one_line(refusion.evaluate, Same(), [{"lq": IMAGE}], limit=wrong)


@pytest.mark.parametrize("wrong", [None, "2", 1.5, True, []])
def test_a_border_is_a_whole_number(wrong):
    message = one_line(refusion.metrics.measure, IMAGE, IMAGE, crop_border=wrong)
    assert message.startswith("crop_border: expected 0 <= border")


def test_the_message_names_the_argument():
    assert one_line(refusion.load_config, None) == "options: expected a YAML file, got None"
    assert "overrides: expected a list of texts" in one_line(refusion.load_config, OPTIONS, None)
    assert "T: expected a whole number of steps from 1 to 100000" in one_line(
        refusion.IRSDE, max_sigma=50, T=10**30
    )
    assert one_line(refusion.read_image, PHOTO, max_pixels=None).startswith("max_pixels: expected")
    photo = one_line(refusion.evaluate, Same(), [{"gt": IMAGE}])
    assert photo.startswith("photo 0: expected {'lq': image, 'gt': image}, got")
