"""The page of `refusion test`: all pictures of a photo, where its crops are, its limits."""

import argparse
import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refusion import cli
from refusion.cli.test import beside_of
from refusion.evaluation import page
from refusion.evaluation.crops import telling_crops
from refusion.images.io import read_image, write_image
from refusion.restorers.dark_channel import dark_channel_prior


def smooth_photo(seed):
    """A photo (3, 40, 56) that JPEG changes little."""
    few = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(few, (40, 56), mode="bilinear")[0]


def overlap(first, second):
    rows = min(first.bottom, second.bottom) - max(first.top, second.top)
    columns = min(first.right, second.right) - max(first.left, second.left)
    return rows > 0 and columns > 0


def test_crops_show_the_largest_change_the_brightest_and_the_darkest_part():
    given = torch.full((3, 200, 300), 0.5)
    given[:, 150:, 250:] = 0.9
    given[:, :50, 250:] = 0.1
    result = given.clone()
    result[:, 20:60, 30:70] += 0.2
    found = telling_crops(given, result, 40)
    assert list(found) == ["largest change", "brightest", "darkest"]
    assert found["largest change"].cut(result - given).mean() == pytest.approx(0.2, abs=1e-6)
    assert found["brightest"].cut(given).mean() == pytest.approx(0.9, abs=1e-6)
    assert found["darkest"].cut(given).mean() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("size", [(41, 41), (40, 130), (97, 65), (300, 41), (30, 90)])
def test_crops_lie_inside_and_do_not_overlap(size):
    given = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    found = list(telling_crops(given, given.flip(-1) * 0.9, 40).values())
    assert 1 <= len(found) <= 3
    for number, one in enumerate(found):
        assert one.cut(given).shape[1:] == (min(40, size[0]), min(40, size[1]))
        assert not any(overlap(one, other) for other in found[:number])


def test_crops_of_a_low_photo_do_not_overlap_beside_each_other():
    """The brightest part begins less than the width of a crop before the largest change."""
    given, change = torch.zeros(3, 30, 160), torch.zeros(3, 30, 160)
    given[..., 26:66], change[..., 60:100] = 0.5, 0.3
    found = telling_crops(given, given + change, 40)
    assert found["largest change"].left == 60
    assert not overlap(found["largest change"], found["brightest"])


def test_a_photo_that_fits_into_one_crop_has_none():
    assert telling_crops(torch.zeros(3, 40, 30), torch.ones(3, 40, 30), 40) == {}


@pytest.fixture
def call(tiny_checkpoint, tmp_path, monkeypatch):
    """Run the command on two sets with a tiny model, with these sizes of pictures on the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(page, "SMALL", 24)
    monkeypatch.setattr(page, "CROP", 16)
    for folder in ("lq", "gt", "other"):
        for number in range(2):
            Path(folder).mkdir(exist_ok=True)
            write_image(
                Path(folder, f"{number}.png"), smooth_photo(number + 5 * (folder == "gt")), None
            )
    Path("other/1.png").unlink()

    def run(*argv):
        own = ["--weights", str(tiny_checkpoint("latent")), "--device", "cpu"]
        given = ["--data", "pairs=lq:gt", "--data", "alone=lq", "--output", "out"]
        return cli.test_main([*given, *own, *argv])

    return run


def pictures():
    """All pictures of the page beside each other, by their alternative text."""
    text = Path("p.html").read_text(encoding="utf-8")
    rows = text[text.index("alone") :], text[: text.index("<h2>alone")]
    found = []
    for part in rows:
        shown = re.findall(r'<td><img alt="([^"]*)" src="data:image/jpeg;base64,([^"]*)">', part)
        found.append({alt: Image.open(io.BytesIO(base64.b64decode(data))) for alt, data in shown})
    return found


def test_every_picture_of_every_set_is_on_the_page(call):
    assert call("--html", "p.html", "--baselines", "dark_channel", "--beside", "RIDCP=other") == 0
    alone, pairs = pictures()
    columns = ["input", "dark_channel", "result", "RIDCP", "ground truth"]
    rows = ["reduced", *(f"100 %: {key}" for key in ("largest change", "brightest", "darkest"))]
    for number in range(2):
        for row in rows:
            for column in columns:
                alt = f"{number}: {column}, {row}"
                assert (alt in pairs) == (column != "RIDCP" or number == 0)
                assert (alt in alone) == (alt in pairs and column != "ground truth")
    assert pairs["0: input, reduced"].size == (24, 17)
    assert pairs["0: result, 100 %: darkest"].size == (16, 16)
    assert all(picture.format == "JPEG" for picture in pairs.values())


def test_a_damaged_picture_of_others_is_left_out(call, caplog):
    path = Path("other/0.png")
    path.write_bytes(path.read_bytes()[:60])
    assert call("--html", "p.html", "--beside", "RIDCP=other") == 0
    assert "not on the page: other/0.png" in caplog.text
    alone, pairs = pictures()
    assert "0: result, reduced" in pairs
    assert not any("RIDCP" in alt for alt in (*alone, *pairs))


def test_crops_are_pixels_of_the_files(call):
    assert call("--html", "p.html", "--baselines", "dark_channel") == 0
    _, pairs = pictures()
    lq = read_image("lq/0.png").image
    result = read_image("out/pairs/0.png").image
    region = telling_crops(lq, result, 16)["brightest"]
    expected = {"input": lq, "result": result, "dark_channel": dark_channel_prior(lq[None])[0]}
    for column, whole in expected.items():
        shown = pairs[f"0: {column}, 100 %: brightest"].convert("RGB")
        levels = torch.from_numpy(np.array(shown)).permute(2, 0, 1)
        assert (levels / 255 - region.cut(whole)).abs().mean() < 0.05


def test_only_the_first_photos_have_crops(call, monkeypatch):
    monkeypatch.setattr(page, "DETAILED", 1)
    assert call() == 0
    Path("gt/0.png").write_bytes(Path("out/pairs/0.png").read_bytes())  # so 1 is the worst photo
    assert call("--html", "p.html") == 0
    alone, pairs = pictures()
    assert {alt[0] for alt in alone if "100 %" in alt} == {"0"}  # without scores, in order
    assert {alt[0] for alt in pairs if "100 %" in alt} == {"1"}
    assert {alt[0] for alt in alone} == {alt[0] for alt in pairs} == {"0", "1"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--beside", "a=other"], "--beside: needs --html"),
        (["--html", "p.html", "--beside", "a=absent"], "--beside: folder 'absent' does not exist"),
        (["--html", "p.html", "--beside", "a=lq", "--beside", "a=gt"], "--beside: the same name"),
    ],
)
def test_wrong_options_are_refused_before_photos_are_restored(call, argv, words, capsys):
    assert call(*argv) == 2
    assert words in capsys.readouterr().err
    assert not Path("out/pairs").exists()


@pytest.mark.parametrize("text", ["other", "=other", "a="])
def test_a_folder_beside_needs_a_title(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected TITLE=DIR, got '{text}'"):
        beside_of(text)
    assert beside_of("a=b/c=d") == ("a", Path("b/c=d"))
