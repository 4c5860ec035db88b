"""The fields of models that predict haze, in a real browser."""

import time

import pytest
from app_cases import links, needs_gradio, photo_16, served
from browser import needs_chromium, opened_browser

pytestmark = [pytest.mark.slow, needs_chromium, needs_gradio]

STATUS = "document.querySelector('#status').innerText"
SHOWN = "[...document.querySelectorAll('#slider img')].map(i => i.src)"


@pytest.fixture(scope="module")
def page(tiny_checkpoint, tmp_path_factory):
    """A tab with the page of a tiny model that predicts haze."""
    folder = tmp_path_factory.mktemp("page")
    with (
        served(folder, "--weights", tiny_checkpoint("haze")) as (address, _),
        opened_browser(folder / "profile") as tab,
    ):
        tab.open(address)
        tab.wait_for("document.querySelectorAll('#strength input').length === 2")
        yield tab
        assert not tab.errors()


def give(page, path):
    page.give_file("#photo input[type=file]", path)
    page.wait_for("document.querySelectorAll('#photo a').length === 1")


def restore(page):
    page.evaluate("document.querySelector('#restore').click()")
    page.wait_for(f"{STATUS}.includes('pixels in')", 300)
    page.wait_for("document.querySelectorAll('#files a').length > 0")
    return links(page)


def move(page, field, value):
    """Move the slider of a field, as the mouse does."""
    page.evaluate(
        f"""(() => {{
        const slider = document.querySelector('#{field} input[type=range]');
        slider.value = {value};
        slider.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()"""
    )


def test_the_picture_follows_the_sliders_and_the_button_writes_the_file(page, tmp_path):
    limits = "(s => [s.min, s.max])(document.querySelector('#strength input[type=range]'))"
    assert page.evaluate(limits) == ["-2", "2"]
    give(page, photo_16(tmp_path / "a.png", 300, 400))
    assert list(restore(page)) == ["a_haze.png"]
    seen = [page.evaluate(SHOWN)]
    for field, value in (("strength", 0.5), ("strength", -1)):
        start = time.monotonic()
        move(page, field, value)
        page.wait_for(f"{SHOWN}.length === 2 && {SHOWN}[1] !== '{seen[-1][1]}'")
        assert time.monotonic() - start < 20
        page.wait_for(f"{STATUS}.includes('Preview')")
        seen.append(page.evaluate(SHOWN))
        assert page.evaluate("document.querySelectorAll('#files a').length") == 0
    assert len({pictures[1] for pictures in seen}) == 3
    assert len({pictures[0] for pictures in seen}) <= 2  # the photo; once written by another step
    assert list(restore(page)) == ["a_haze.png"]


def test_the_advanced_fields_are_there(page):
    page.evaluate("[...document.querySelectorAll('button')]"
                  ".find(b => b.innerText.includes('Advanced')).click()")  # fmt: skip
    page.wait_for("document.querySelectorAll('#distance input[type=range]').length === 1")
    before = page.evaluate(SHOWN)
    move(page, "distance", 0)
    page.wait_for(f"{SHOWN}.length === 2 && {SHOWN}[1] !== '{before[1]}'")
    assert "Exposure" in page.text()
