"""The page in a real browser: a photo is dropped, restored, looked at and downloaded."""

import json
import urllib.request

import numpy as np
import pytest
import torch
from app_cases import ICC, links, needs_gradio, peak_mib, photo_16, served
from browser import needs_chromium, opened_browser

from refusion import cli
from refusion.images.io import read_image, write_image

pytestmark = [pytest.mark.slow, needs_chromium, needs_gradio]


@pytest.fixture(scope="module")
def page(tiny_checkpoint, tmp_path_factory):
    """A tab with the page of a tiny model, and the process that serves it."""
    folder = tmp_path_factory.mktemp("page")
    limits = ["--max-pixels", 25_000_000, "--max-upload", "40M"]
    with (
        served(folder, "--weights", tiny_checkpoint("latent"), *limits) as (address, process),
        opened_browser(folder / "profile") as tab,
    ):
        tab.address, tab.process = address, process
        yield tab
        assert not tab.errors()
        outside = [url for url in tab.requests() if not url.startswith(address)]
        assert not outside


def load(page):
    page.open(page.address)
    page.wait_for("document.querySelectorAll('input[type=number]').length === 4")


@pytest.fixture(autouse=True)
def fresh(page):
    load(page)


def give(page, path):
    page.give_file("#photo input[type=file]", path)


def press(page):
    page.evaluate("document.querySelector('#restore').click()")


def restore(page, path, meanwhile=None):
    """Restore a file; the addresses of the results by name. Waits for an expression meanwhile."""
    give(page, path)
    page.wait_for("document.querySelectorAll('#photo a').length === 1")
    press(page)
    if meanwhile:
        page.wait_for(meanwhile, 300)
    page.wait_for("document.querySelector('#status').innerText.includes('pixels in')", 300)
    page.wait_for("document.querySelectorAll('#files a').length > 0")
    return links(page)


def set_number(page, label, value):
    """Type a number into the field of a label."""
    page.evaluate(
        f"""(() => {{
        const all = [...document.querySelectorAll('input[type=number]')];
        const field = all.find(e => e.closest('.block').innerText.startsWith('{label}'));
        field.value = {value};
        for (const kind of ['input', 'change', 'blur']) field.dispatchEvent(new Event(kind));
        }})()"""
    )


def fetch(address, path):
    path.write_bytes(urllib.request.urlopen(address).read())
    return path


def shown_sizes(page, selector):
    """Natural sizes of the pictures in an element, once they are there."""
    images = f"[...document.querySelectorAll('{selector} img')]"
    page.wait_for(f"{images}.length > 0 && {images}.every(i => i.complete && i.naturalWidth)")
    return page.evaluate(f"{images}.map(i => [i.naturalWidth, i.naturalHeight])")


def test_a_photo_comes_back_as_tiled_infer_writes_it(page, tmp_path, tiny_checkpoint):
    source = photo_16(tmp_path / "dächer & co.png")
    (name, address), *others = restore(page, source).items()
    assert (name, others) == ("dächer & co_latent.png", [])
    got = fetch(address, tmp_path / "got.png")
    argv = ["--weights", tiny_checkpoint("latent"), "--input", source, "--device", "cpu"]
    assert cli.restore_main([*map(str, argv), "--output", str(tmp_path / "own.png")]) == 0
    assert got.read_bytes() == (tmp_path / "own.png").read_bytes()
    photo = read_image(got)
    assert (photo.bit_depth, photo.icc) == (16, ICC)
    assert photo.exif


def test_the_slider_moves(page, tmp_path):
    restore(page, photo_16(tmp_path / "a.png", 300, 400))
    assert shown_sizes(page, "#slider") == [[400, 300]] * 2
    cut = "document.querySelectorAll('#slider img')[1].style.clipPath"
    before = page.wait_for(cut)
    left, top, width, height = page.box("#slider [data-testid=slider] .inner")
    start = (left + width / 2, top + height / 2)
    page.drag(start, (start[0] - 100, start[1]))
    page.wait_for(f"{cut} !== {json.dumps(before)}")


def test_samples_give_a_map_and_a_reduced_copy_is_shown(page, tmp_path):
    set_number(page, "Samples", 3)
    set_number(page, "Strength", 0.5)
    names = restore(page, photo_16(tmp_path / "wide.png", 100, 2000))
    assert list(names) == ["wide_latent.png", "wide_latent_uncertainty.png"]
    assert shown_sizes(page, "#slider") == [[1600, 80]] * 2
    assert shown_sizes(page, "#map") == [[1600, 80]]
    spread = read_image(fetch(names["wide_latent_uncertainty.png"], tmp_path / "map.png"))
    assert spread.samples.shape == (3, 100, 2000)
    assert spread.samples.float().mean() > 0
    assert "Uncertainty" in page.text()
    buttons = "[...document.querySelectorAll('#slider button, #map button')].map(b => b.ariaLabel)"
    # None is the picture itself, which opens in full; nothing saves the copy or uploads it.
    assert set(page.evaluate(buttons)) == {"Undo", "Fullscreen", None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"no image at all", "a.png: not an image, expected JPEG"),
        ("<b>x.png", b"", "x.png: empty file"),
    ],
)
def test_a_bad_upload_is_one_plain_message(page, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    give(page, path)
    page.wait_for("document.querySelectorAll('#photo a').length === 1")
    press(page)
    page.wait_for(f"document.body.innerText.includes({json.dumps(message)})")
    assert str(tmp_path.anchor) + "tmp" not in page.text()
    assert "Traceback" not in page.text()


def test_no_photo_and_wrong_steps_are_said(page, tmp_path):
    press(page)
    page.wait_for("document.body.innerText.includes('no photo: drop a file')")
    set_number(page, "Steps", 5000)
    give(page, photo_16(tmp_path / "a.png"))
    page.wait_for("document.querySelectorAll('#photo a').length === 1")
    press(page)
    page.wait_for("document.body.innerText.includes('steps: expected')")


def test_cancel_stops_the_restoration(page, tmp_path):
    set_number(page, "Samples", 64)
    give(page, photo_16(tmp_path / "a.png", 900, 900))
    page.wait_for("document.querySelectorAll('#photo a').length === 1")
    press(page)
    page.wait_for("/samples.*[0-9.]+%/s.test(document.querySelector('#slider').innerText)")
    page.evaluate("document.querySelector('#cancel').click()")
    page.wait_for("document.querySelector('#status').innerText.includes('Cancelled')")
    load(page)
    assert list(restore(page, photo_16(tmp_path / "b.png"))) == ["b_latent.png"]


def test_limits_are_kept(page, tmp_path):
    large = tmp_path / "large.png"
    write_image(large, torch.zeros(3, 5001, 5000, dtype=torch.uint8))
    give(page, large)
    page.wait_for("document.querySelectorAll('#photo a').length === 1")
    press(page)
    page.wait_for("document.body.innerText.includes('more than the limit of 25')")
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(bytes(41 * 2**20))
    load(page)
    give(page, heavy)
    page.wait_for("document.body.innerText.includes('exceed the maximum allowed size')")
    assert page.evaluate("document.querySelectorAll('#photo a').length") == 0


def test_24_megapixels_in_bounded_memory(page, tmp_path):
    rng = np.random.default_rng(0)
    rough = torch.from_numpy(rng.integers(0, 256, (1, 3, 40, 60), dtype=np.uint8))
    image = torch.nn.functional.interpolate(rough, (4000, 6000))[0]
    source = tmp_path / "large.jpg"
    write_image(source, image)
    progress = "/(encode|decode).*[1-9][0-9.]*%/s.test(document.querySelector('#slider').innerText)"
    (address,) = restore(page, source, progress).values()
    assert read_image(fetch(address, tmp_path / "got.jpg")).samples.shape == (3, 4000, 6000)
    assert shown_sizes(page, "#slider") == [[1600, 1067]] * 2
    assert peak_mib(page.process) < 2048
