"""What takes longer on the page: other tabs, large photos, depth maps, several photos."""

import time
import zipfile

import numpy as np
import pytest
import torch
from app_cases import needs_gradio, peak_mib, photo_16
from browser import needs_chromium
from page_cases import (
    CAPTION,
    ERROR,
    SHOWN,
    STATUS,
    choose,
    drop,
    load,
    move,
    open_advanced,
    opened_page,
    press,
    restore,
    shown_sizes,
    type_number,
    wait_for_another_picture,
)

from refusion import cli
from refusion.images.io import read_image, write_image

pytestmark = [pytest.mark.slow, needs_chromium, needs_gradio]


# What has the focus: identifiers of it and of what contains it, label, and whether it is outlined.
FOCUSED = """(e => {
    const names = [], label = e.closest('label');
    for (let part = e; part; part = part.parentElement) if (part.id) names.push(part.id);
    const outlined = (part) => part && getComputedStyle(part).outlineStyle !== 'none';
    return [names, e.ariaLabel ?? '', !!(outlined(e) || outlined(label))];
})(document.activeElement)"""


@pytest.fixture(scope="module")
def page(tiny_checkpoint, tmp_path_factory):
    """A tab with the page of tiny models, and the process that serves it."""
    folder = tmp_path_factory.mktemp("page")
    weights = [tiny_checkpoint(kind) for kind in ("latent", "guided", "haze")]
    limits = ["--max-pixels", 25_000_000, "--max-upload", "40M"]
    with opened_page(folder, "--weights", *weights, *limits) as tab:
        yield tab


@pytest.fixture(autouse=True)
def fresh(page):
    load(page)


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def begin_long_restoration(page, tmp_path):
    """Start a restoration that takes minutes, and wait until it runs."""
    drop(page, photo_16(tmp_path / "a.png", 900, 900))
    open_advanced(page)
    type_number(page, "samples", 64)
    press(page)
    page.wait_for("/Restoring.*[0-9.]+%/s.test(document.querySelector('#status').innerText)")


def test_cancel_stops_the_restoration(page, tmp_path, downloads):
    begin_long_restoration(page, tmp_path)
    assert page.evaluate("document.querySelectorAll('[role=progressbar]').length") == 1
    assert page.evaluate("!document.querySelector('#restore')")
    press(page, "cancel")
    page.wait_for(f"{STATUS} === 'Cancelled' && !!document.querySelector('#restore')")
    assert page.evaluate("!document.querySelector('#cancel')")
    move(page, "samples", 1)
    assert restore(page, downloads).name == "a_latent.png"


def test_a_closed_tab_does_not_hold_up_the_others(page, tmp_path, downloads):
    with page.another() as other:
        load(other, page.address)
        begin_long_restoration(other, tmp_path)
        page.give_file("#photos input[type=file]", photo_16(tmp_path / "b.png"))
        page.wait_for(f"{SHOWN}.length === 2")  # the photo itself does not wait
        start = time.monotonic()
    page.wait_for(f"{CAPTION} === 'Preview'")
    assert restore(page, downloads).name == "b_latent.png"
    assert time.monotonic() - start < 60


def test_two_tabs_have_photos_of_their_own(page, tmp_path, downloads):
    drop(page, photo_16(tmp_path / "a.png", 40, 56))
    with page.another() as other:
        load(other, page.address)
        drop(other, photo_16(tmp_path / "b.png", 30, 60))
        assert shown_sizes(other) == [[60, 30]] * 2
        assert shown_sizes(page) == [[56, 40]] * 2
        assert restore(page, downloads).name == "a_latent.png"
        assert other.evaluate(CAPTION) == "Preview"


def test_24_megapixels_in_bounded_memory(page, tmp_path, downloads):
    rng = np.random.default_rng(0)
    rough = torch.from_numpy(rng.integers(0, 256, (1, 3, 40, 60), dtype=np.uint8))
    image = torch.nn.functional.interpolate(rough, (4000, 6000))[0]
    write_image(tmp_path / "large.jpg", image)
    drop(page, tmp_path / "large.jpg")
    assert shown_sizes(page) == [[1024, 683]] * 2
    press(page)
    page.wait_for("/Restoring.*[1-9][0-9.]*%/s.test(document.querySelector('#status').innerText)")
    page.wait_for("!!document.querySelector('#download')", 300)
    got = page.download("#download", downloads)
    assert read_image(got).samples.shape == (3, 4000, 6000)
    assert shown_sizes(page) == [[1600, 1067]] * 2
    assert peak_mib(page.process) < 2048


def test_samples_give_a_map_only_where_it_means_something(page, tmp_path, downloads):
    drop(page, photo_16(tmp_path / "wide.png", 100, 2000))
    open_advanced(page)
    type_number(page, "samples", 3)
    assert restore(page, downloads).name == "wide_latent.png"
    assert shown_sizes(page, "#map") == [[1600, 80]]
    (downloads / "wide_latent.png").unlink()
    spread = read_image(page.download("#download_map", downloads))
    assert spread.samples.shape == (3, 100, 2000)
    assert spread.samples.float().mean() > 0
    choose(page, "haze")
    assert page.evaluate("!document.querySelector('#samples, #seed, #map, #download_map')")
    assert page.evaluate("!!document.querySelector('#distance')")


def test_a_click_sets_the_focus_of_a_lens(page, tmp_path, downloads, tiny_checkpoint):
    photo, depth = photo_16(tmp_path / "a.png", 120, 160), tmp_path / "depth.png"
    ramp = torch.linspace(0, 1, 160).expand(3, 120, 160)
    write_image(depth, ramp)
    drop(page, photo)
    choose(page, "guided", "Add a depth map")
    page.give_file("#maps input[type=file]", depth)
    page.wait_for(f"{CAPTION} === 'Preview'")
    assert shown_sizes(page, "#depth") == [[160, 120]]
    seen = page.evaluate(SHOWN)
    left, top, width, height = page.box("#compare img")
    point = (left + 0.25 * width, top + 0.75 * height)
    page.drag(point, point)
    wait_for_another_picture(page, seen)
    x, y = map(
        float,
        page.evaluate("document.querySelector('#focus textarea, #focus input').value").split(","),
    )
    assert (x, y) == pytest.approx((0.25, 0.75), abs=0.01)
    assert page.evaluate("document.querySelectorAll('.focus-mark').length") == 2
    got = restore(page, downloads)
    argv = ["--weights", tiny_checkpoint("guided"), "--input", photo, "--device", "cpu"]
    argv += ["--aperture", "1.8", "--disparity", depth, "--focus", f"{x},{y}"]
    assert cli.restore_main([*map(str, argv), "--output", str(tmp_path / "own.png")]) == 0
    assert got.read_bytes() == (tmp_path / "own.png").read_bytes()


def test_several_photos_become_one_zip(page, tmp_path, downloads):
    (tmp_path / "other").mkdir()
    photos = [photo_16(tmp_path / "a.png"), photo_16(tmp_path / "other" / "a.png", 30, 44)]
    (tmp_path / "bad.png").write_bytes(b"no image")
    drop(page, *photos, tmp_path / "bad.png")
    got = restore(page, downloads)
    assert got.name == "3_photos_latent.zip"
    with zipfile.ZipFile(got) as packed:
        assert packed.namelist() == ["a_latent.png", "a_latent (2).png"]
        assert packed.testzip() is None
        packed.extractall(tmp_path / "out")
    assert read_image(tmp_path / "out" / "a_latent (2).png").samples.shape == (3, 30, 44)
    lines = page.evaluate(STATUS)
    assert "2 of 3 photos restored" in lines
    assert "bad.png: not an image" in lines


def test_the_download_has_the_chosen_format_and_quality(page, tmp_path, downloads):
    drop(page, photo_16(tmp_path / "a.png", 300, 400))
    assert page.evaluate("!document.querySelector('#quality')")
    page.evaluate("document.querySelector('#format input').focus()")
    page.wait_for("document.querySelectorAll('#format [role=option], ul[role=listbox] li').length")
    page.evaluate(
        "(e => e.dispatchEvent(new MouseEvent('mousedown', {bubbles: true})))"
        "([...document.querySelectorAll('ul[role=listbox] li')]"
        ".find(e => e.innerText.includes('JPEG')))"
    )
    page.wait_for("!!document.querySelector('#quality input[type=range]')")
    sizes = []
    for quality in (90, 20):
        type_number(page, "quality", quality)
        got = restore(page, downloads)
        assert got.name == "a_latent.jpg"
        assert read_image(got).format == "JPEG"
        sizes.append(got.stat().st_size)
        got.unlink()
    assert sizes[1] < 0.5 * sizes[0]


def test_limits_are_kept(page, tmp_path):
    large = tmp_path / "large.png"
    write_image(large, torch.zeros(3, 5001, 5000, dtype=torch.uint8))
    page.give_file("#photos input[type=file]", large)
    page.wait_for(f"{ERROR}.includes('more than the limit of 25')")
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(bytes(41 * 2**20))
    load(page)
    page.give_file("#photos input[type=file]", heavy)
    page.wait_for("document.body.innerText.includes('exceed the maximum allowed size')")
    assert page.evaluate("!document.querySelector('#stage')")


def test_wrong_numbers_are_said_beside_the_button(page, tmp_path):
    drop(page, photo_16(tmp_path / "a.png"))
    open_advanced(page)
    type_number(page, "steps", 5000)
    page.wait_for(f"{ERROR}.startsWith('steps: expected')")
    press(page)
    page.wait_for(f"{STATUS}.startsWith('steps: expected')")
    type_number(page, "steps", 2)
    page.wait_for(f"{ERROR} === '' && {STATUS} === '' && {CAPTION} === 'Preview'")


@pytest.mark.parametrize("width", [360, 900, 1440])
def test_the_page_fits_windows_of_all_widths_and_is_used_by_keyboard(page, tmp_path, width):
    page.set_width(width)
    load(page)
    drop(page, photo_16(tmp_path / "a.png", 300, 400))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('#compare').getBoundingClientRect().width") > 300
    reached, unseen = set(), []
    for _ in range(40):
        page.press_key("Tab")
        names, label, is_seen = page.evaluate(FOCUSED)
        reached |= {*names, label}
        unseen += [] if is_seen or not names else [names]
    assert {"task", "photos", "strength", "format", "restore"} <= reached
    assert "Border between the photo and the result" in reached
    assert not unseen
