"""What tests do with the page in a browser."""

import contextlib
import json

from app_cases import served
from browser import opened_browser

CAPTION = "(document.querySelector('#caption')?.innerText ?? '').trim()"
STATUS = "(document.querySelector('#status')?.innerText ?? '').trim()"
ERROR = "(document.querySelector('#error')?.innerText ?? '').trim()"
PICTURES = "[...document.querySelectorAll('#compare img')]"
SHOWN = f"{PICTURES}.map(i => i.src)"


@contextlib.contextmanager
def opened_page(folder, *argv):
    """A tab with the page, which talks to no other server and whose scripts have no errors."""
    with (
        served(folder, *argv) as (address, process),
        opened_browser(folder / "profile") as tab,
    ):
        tab.address, tab.process = address, process
        yield tab
        assert not tab.errors()
        assert not [url for url in tab.requests() if not url.startswith(address)]


def load(page, address=None):
    """Open the page, without a photo."""
    page.open(address or page.address)
    page.wait_for("!!document.querySelector('#photos input[type=file]')")


def drop(page, *photos):
    """Choose photos, and wait for the preview."""
    page.give_file("#photos input[type=file]", *photos)
    page.wait_for(f"{CAPTION}.startsWith('Preview') && {CAPTION}", 120)


def choose(page, task, caption="Preview"):
    """Choose a task, and wait for what the page says about the picture."""
    page.evaluate(f"document.querySelector('#task input[value={task}]').click()")
    page.wait_for(f"document.querySelector('#task input[value={task}]').checked")
    page.wait_for(f"{CAPTION}.startsWith('{caption}')", 120)


def press(page, button="restore"):
    """Press a button."""
    page.evaluate(f"document.querySelector('#{button}').click()")


def restore(page, folder):
    """Restore the photos; the downloaded file."""
    page.wait_for("!!document.querySelector('#restore')")
    press(page)
    page.wait_for("!!document.querySelector('#download')", 300)
    return page.download("#download", folder)


def open_advanced(page):
    """Show the advanced fields."""
    page.evaluate(
        "[...document.querySelectorAll('button')]"
        ".find(b => b.innerText.includes('Advanced')).click()"
    )
    page.wait_for("!!document.querySelector('#steps input, #noise_level input, #distance input')")


def move(page, field, value):
    """Move the slider of a field, as the mouse does."""
    page.evaluate(
        f"""(() => {{
        const slider = document.querySelector('#{field} input[type=range]');
        slider.value = {value};
        slider.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()"""
    )


def type_number(page, field, value):
    """Type a number into a field."""
    page.evaluate(
        f"""(() => {{
        const field = document.querySelector('#{field} input[type=number]');
        field.value = {value};
        for (const kind of ['input', 'change', 'blur'])
            field.dispatchEvent(new Event(kind, {{bubbles: true}}));
        }})()"""
    )


def shown_sizes(page, selector="#compare"):
    """Natural sizes of the pictures in an element, once they are there."""
    images = f"[...document.querySelectorAll('{selector} img')]"
    page.wait_for(f"{images}.length > 0 && {images}.every(i => i.complete && i.naturalWidth)")
    return page.evaluate(f"{images}.map(i => [i.naturalWidth, i.naturalHeight])")


def wait_for_another_picture(page, before):
    """Wait until the result is another than in the pictures `before`, a value of `SHOWN`."""
    page.wait_for(f"{SHOWN}.length === 2 && {SHOWN}[1] !== {json.dumps(before[1])}", 60)
