"""The page as a process, with requests of programs and of other pages."""

import secrets
import signal
import time

import pytest
from app_cases import Client, file, needs_gradio, photo_16, sent, served

pytestmark = [pytest.mark.slow, needs_gradio]

MB = 2**20
RESTORE = ("restore", "click")


@pytest.fixture(scope="module")
def page(tiny_checkpoint, tmp_path_factory):
    """Address of a page, and its process."""
    folder = tmp_path_factory.mktemp("page")
    limits = ["--max-upload", "8M", "--max-stored", "24M", "--allow-host", "photos.example.org"]
    weights = [tiny_checkpoint("latent"), tiny_checkpoint("haze")]
    with served(folder, "--weights", *weights, *limits) as (address, process):
        yield address, process


@pytest.fixture
def client(page):
    return Client(page[0], secrets.token_hex(4))


@pytest.fixture
def photo(client, tmp_path):
    """An uploaded photo."""
    status, path = client.upload(photo_16(tmp_path / "a.png").read_bytes())
    assert status == 200
    return path


@pytest.fixture
def large(client, tmp_path):
    """An uploaded photo whose 64 samples take minutes."""
    status, path = client.upload(photo_16(tmp_path / "large.png", 900, 900).read_bytes())
    assert status == 200
    return path


def begin(messages):
    """Wait until a restoration runs."""
    next(message for message in messages if message["msg"] == "process_starts")
    time.sleep(0.5)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"Host": "localhost"}, 200), ({"Host": "photos.example.org"}, 200),
     ({"Host": "evil.example"}, 403), ({"Origin": "http://evil.example"}, 403),
     ({"Origin": "null"}, 403), ({"Sec-Fetch-Site": "cross-site"}, 403),
     ({"X-Forwarded-Host": "evil.example"}, 403)],
)  # fmt: skip
def test_other_pages_get_nothing_and_send_nothing(client, headers, status):
    for method, path in [("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/cancel")]:
        got, sent, _ = client.ask(method, path, b"{}", **headers)
        assert got == (422 if status == 200 and method == "POST" else status)
        assert sent["x-frame-options"] == "DENY"
        assert not [name for name in sent if "access-control" in name.lower()]
    assert client.upload(b"x", **headers)[0] == status


def test_only_uploaded_files_are_read(client, photo, tmp_path):
    outside = photo_16(tmp_path / "outside.png")
    web = "http://127.0.0.1:1/a.png"
    for path in (outside, "/etc/passwd", f"{photo}/../../../../{outside}", web, "absent.png"):
        for values in (sent(path), sent(photo, path), sent(photo, maps=[file(path)])):
            for event in (RESTORE, ("photos", "change"), ("strength", "input")):
                assert "not an uploaded file" in client.restore(values, *event)["refused"]
    for path in (outside, "/etc/passwd", f"{photo}/../../../../../../etc/passwd", f"//{outside}"):
        assert client.ask("GET", f"/gradio_api/file={path}")[0] == 403
    for path in (web, "https://example.org/a"):
        assert client.ask("GET", f"/gradio_api/file={path}")[0] == 404
    assert client.ask("GET", f"/gradio_api/file={photo}")[0] == 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "steps: expected a whole number from 0 to 1000, got -1"),
        ({"steps": 10**20}, "steps: expected"),
        ({"strength": float("nan")}, "strength: expected a number from 0 to 100, got nan"),
        ({"seed": float("inf")}, "seed: expected"),
        ({"seed": 0.5}, "seed: expected"),
        ({"samples": 10**9}, "samples: expected a whole number from 1 to 64"),
        ({"seed": "<b>"}, "got &#x27;&lt;b&gt;&#x27;"),
        ({"task": "<img src=x>"}, "task: expected one of latent, haze"),
        ({"task": "haze", "distance": 2}, "distance: expected a number from 0 to 1, got 2"),
        ({"task": "haze", "exposure": "bright"}, "exposure: expected one of auto, keep, "),
        ({"task": "haze", "strength": 300}, "strength: expected a number from -200 to 200, got"),
        ({"format": "exe"}, "format: expected one of photo, jpeg, png"),
        ({"format": "jpeg", "quality": 0}, "quality: expected a whole number from 1 to 100"),
        ({"focus": "1, 2"}, "focus: expected two numbers from 0 to 1"),
        ({"aperture": 0}, "aperture: expected a number from 1.4 to 16, got 0"),
        ({"noise_level": -1}, "noise level: expected a number from 0 to 100, got -1"),
    ],
)
def test_wrong_values_are_one_line(client, photo, values, message):
    shown = client.restore(sent(photo, **values))
    assert message in shown["status"]
    assert shown["status"].startswith('<p class="error" role="alert">')
    assert "<" not in shown["status"][30:-4]
    assert photo not in shown["status"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (sent(strength=[1]), "expected a text or a number"),
        (sent(task=["latent"]), "expected a text or a number"),
        (sent()[:4], "expected 14 values, got 4"),
        (["a.png", *sent()[1:]], "expected an uploaded file"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(client, values, message):
    assert message in client.restore(values)["refused"]


def test_a_slider_gives_a_preview_and_the_button_then_the_file(client, photo):
    """The slider shows the photo that is chosen, and the button offers the file."""

    def after(shown):
        return shown["compare"][1]["path"]

    values = {"task": "haze"}
    moved = values | {"strength": -100, "distance": 0.5, "exposure": "auto"}
    shown = client.restore(sent(photo, **values))
    assert "pixels restored in" in shown["status"]
    assert shown["download"]["value"]["orig_name"].endswith("_haze.png")
    restored = after(shown)
    shown = client.restore(sent(photo, **moved), "strength", "input")
    assert after(shown) != restored
    assert shown["download"]["visible"] is False
    assert "Preview" in shown["caption"]
    shown = client.restore(sent(photo, **moved))
    assert shown["download"]["visible"] is True
    shown = client.restore(sent(photo, **values | {"strength": 900}), "strength", "input")
    assert "strength: expected" in shown["error"]
    shown = client.restore(sent(**values), "strength", "input")
    assert "compare" not in shown or shown["compare"] == {"__type__": "update"}


def test_functions_of_the_page_are_not_called_past_the_queue(client, photo):
    asked = {"data": sent(photo), "fn_index": 0, "session_hash": "x"}
    assert client.post("run/predict", asked)[0] == 404
    for path in ("api/restore", "call/restore", "run/restore", "component_server"):
        assert client.post(path, asked)[0] == 404
    assert client.post("queue/join", asked | {"fn_index": 99})[0] == 500
    assert client.ask("POST", "/gradio_api/queue/join", b"\xff{")[0] in (400, 422, 500)


@pytest.mark.parametrize(
    "name", ["../../evil.png", "x" * 1000 + ".png", "a\x1b[31m.png", "<b>.png"]
)
def test_names_of_uploads_stay_in_the_folder(client, tmp_path, name):
    content = photo_16(tmp_path / "a.png").read_bytes()
    status, path = client.upload(content, name)
    folder, _, rest = path.partition("/served/")
    assert status == 200
    assert rest.count("/") == 1
    assert ".." not in path
    assert path.isprintable()
    assert len(rest) < 300
    written = client.restore(sent(path))["download"]["value"]
    assert written["path"].startswith(f"{folder}/served/")
    assert "<" not in written["orig_name"]


def test_uploads_have_limits(client):
    assert client.upload(bytes(9 * MB))[0] == 413
    for number in range(8):
        status, path = client.upload(bytes([number]) * (7 * MB))
        assert status == 200
    assert client.ask("GET", f"/gradio_api/file={path}")[0] == 200


def test_the_slot_is_free_when_the_tab_is_closed(client, page, large, photo):
    assert client.join(sent(large, samples=64))[0] == 200
    with client.waiting() as messages:
        begin(messages)
    start = time.monotonic()
    assert Client(page[0], "another").restore(sent(photo))["download"]
    assert time.monotonic() - start < 10


def test_the_slot_is_free_when_a_tab_never_asks_for_its_results(client, page, large, photo):
    assert client.join(sent(large, samples=64))[0] == 200
    start = time.monotonic()
    assert Client(page[0], "another").restore(sent(photo))["download"]
    assert time.monotonic() - start < 30


def test_cancel_stops_the_restoration(client, page, large, photo):
    assert client.join(sent(large, samples=64))[0] == 200
    with client.waiting() as messages:
        begin(messages)
        number, _ = client.function("cancel", "click")
        pressed = {"data": [], "fn_index": number, "session_hash": client.session}
        start = time.monotonic()
        assert "Cancelling" in client.post("run/predict", pressed)[2]
        assert Client(page[0], "another").restore(sent(photo))["download"]
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_page_during_a_restoration(end, tiny_checkpoint, tmp_path):
    large = photo_16(tmp_path / "large.png", 900, 900).read_bytes()
    argv = ("--weights", tiny_checkpoint("latent"))
    with served(tmp_path, *argv, end=end) as (address, process):
        client = Client(address, "a")
        client.join(sent(client.upload(large)[1], samples=64))
        with client.waiting() as messages:
            begin(messages)
            process.send_signal(end)
            assert all("_latent.png" not in str(m) for m in messages)  # the stream ends


def test_a_signal_ends_the_page_also_if_the_restoration_does_not_end(tiny_checkpoint, tmp_path):
    plugin = tmp_path / "stuck.py"
    plugin.write_text(
        "import time\nimport refusion.app.restoring as restoring\n"
        "restoring.restore_photo = lambda *_: time.sleep(100)\n"
    )
    argv = ("--weights", tiny_checkpoint("latent"), "--plugin", "stuck")
    with served(tmp_path, *argv) as (address, _):
        client = Client(address, "a")
        path = client.upload(photo_16(tmp_path / "a.png").read_bytes())[1]
        client.join(sent(path))
        with client.waiting() as messages:
            begin(messages)
