"""The page in a real browser: a photo is dropped, previewed, restored and downloaded."""

import json

import pytest
from app_cases import ICC, needs_gradio, photo_16
from browser import needs_chromium
from page_cases import (
    CAPTION,
    ERROR,
    SHOWN,
    STATUS,
    drop,
    load,
    move,
    open_advanced,
    opened_page,
    restore,
    shown_sizes,
    wait_for_another_picture,
)

from refusion import cli
from refusion.images.io import read_image

pytestmark = [needs_chromium, needs_gradio]


@pytest.fixture(scope="module")
def page(tiny_checkpoint, tmp_path_factory):
    """A tab with the page of a tiny model that predicts haze."""
    folder = tmp_path_factory.mktemp("page")
    with opened_page(folder, "--weights", tiny_checkpoint("haze")) as tab:
        yield tab


@pytest.fixture(autouse=True)
def fresh(page):
    load(page)


def test_a_dropped_photo_is_shown_with_its_preview(page, tmp_path):
    parts = "['#stage', '#panel', '#download', '#cancel'].filter(e => document.querySelector(e))"
    assert page.evaluate(parts) == []  # nothing empty before there is a photo
    drop(page, photo_16(tmp_path / "a.png", 300, 2000))
    assert shown_sizes(page) == [[1024, 154]] * 2
    assert page.evaluate(parts) == ["#stage", "#panel"]
    buttons = "[...document.querySelectorAll('#compare button')].map(b => b.ariaLabel)"
    # Nothing saves the reduced copy or uploads it.
    assert set(page.evaluate(buttons)) == {"Undo", "Fullscreen"}
    assert page.evaluate("document.querySelector('#task input:checked').value") == "haze"


def test_the_picture_follows_the_sliders(page, tmp_path):
    drop(page, photo_16(tmp_path / "a.png", 300, 400))
    limits = "(s => [s.min, s.max])(document.querySelector('#strength input[type=range]'))"
    assert page.evaluate(limits) == ["-200", "200"]
    open_advanced(page)
    seen = [page.evaluate(SHOWN)]
    for field, value in (("strength", 50), ("strength", -100), ("distance", 0)):
        move(page, field, value)
        wait_for_another_picture(page, seen[-1])
        seen.append(page.evaluate(SHOWN))
    assert len({pictures[1] for pictures in seen}) == 4
    assert len({pictures[0] for pictures in seen}) == 1


def test_mouse_and_keys_move_the_border_between_photo_and_result(page, tmp_path):
    drop(page, photo_16(tmp_path / "a.png", 300, 400))
    cut = "document.querySelectorAll('#compare img')[1].style.clipPath"
    before = page.wait_for(cut)
    left, top, width, height = page.box("#compare [data-testid=slider] .inner")
    start = (left + width / 2, top + height / 2)
    page.drag(start, (start[0] - 100, start[1]))
    page.wait_for(f"{cut} !== {json.dumps(before)}")
    before = page.evaluate(cut)
    page.evaluate("document.querySelector('#compare [role=slider]').focus()")
    page.press_key("ArrowRight")
    page.wait_for(f"{cut} !== {json.dumps(before)}")
    share = f"parseFloat({cut}.split(' ').pop())"
    told = "parseFloat(document.querySelector('#compare [role=slider]').ariaValueNow)"
    page.wait_for(f"Math.abs({share} - {told}) < 1")


def test_an_error_goes_away_when_it_is_fixed(page, tmp_path):
    wrong = tmp_path / "<b>x.png"
    wrong.write_bytes(b"no image at all")
    page.give_file("#photos input[type=file]", wrong)
    page.wait_for(f"{ERROR}.startsWith('bx.png: not an image, expected JPEG')")
    assert str(tmp_path.anchor) + "tmp" not in page.text()
    page.evaluate("document.querySelector('#photos button[aria-label=Clear]').click()")
    page.wait_for(f"{ERROR} === ''")
    drop(page, photo_16(tmp_path / "a.png"))
    assert page.evaluate(ERROR) == ""


def test_the_download_is_the_file_that_the_command_writes(page, tmp_path, tiny_checkpoint):
    source, folder = photo_16(tmp_path / "dächer & co.png", 60, 80), tmp_path / "downloads"
    folder.mkdir()
    drop(page, source)
    move(page, "strength", 45)
    page.wait_for(f"{CAPTION} === 'Preview'")
    got = restore(page, folder)
    assert page.evaluate(STATUS).startswith("80 x 60 pixels restored in ")
    argv = ["--weights", tiny_checkpoint("haze"), "--input", source, "--device", "cpu"]
    argv += ["--strength", "45%", "--output", tmp_path / "own.png"]
    assert cli.restore_main([*map(str, argv)]) == 0
    assert got.name == "dächer & co_haze.png"
    assert got.read_bytes() == (tmp_path / "own.png").read_bytes()
    photo = read_image(got)
    assert (photo.bit_depth, photo.icc) == (16, ICC)
    assert photo.exif
    move(page, "strength", 100)  # the download is that of the strength before
    page.wait_for("!document.querySelector('#download') && !!document.querySelector('#restore')")
