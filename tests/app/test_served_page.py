"""The page as a process, with requests of programs and of other pages."""

import secrets
import signal
import time

import pytest
from app_cases import Client, file, needs_gradio, photo_16, served

pytestmark = [pytest.mark.slow, needs_gradio]

MB = 2**20
HAZE = (1, "keep")  # distance, exposure
# Task, steps, strength, seed, samples.
SMALL = ("latent", 0, 1, 0, 1, *HAZE)
LONG = ("latent", 0, 1, 0, 64, *HAZE)


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
        success, output = client.restore(file(path), *SMALL)
        assert not success
        assert "not an uploaded file" in output["error"]
    for path in (outside, "/etc/passwd", f"{photo}/../../../../../../etc/passwd", f"//{outside}"):
        assert client.ask("GET", f"/gradio_api/file={path}")[0] == 403
    for path in (web, "https://example.org/a"):
        assert client.ask("GET", f"/gradio_api/file={path}")[0] == 404
    assert client.ask("GET", f"/gradio_api/file={photo}")[0] == 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("latent", -1, 1, 0, 1, *HAZE), "steps: expected a whole number from 0 to 1000, got -1"),
        (("latent", 10**20, 1, 0, 1, *HAZE), "steps: expected"),
        (
            ("latent", 0, float("nan"), 0, 1, *HAZE),
            "strength: expected a number from 0 to 1, got nan",
        ),
        (("latent", 0, 1, float("inf"), 1, *HAZE), "seed: expected"),
        (("latent", 0, 1, 0.5, 1, *HAZE), "seed: expected"),
        (("latent", 0, 1, 0, 10**9, *HAZE), "samples: expected a whole number from 1 to 64"),
        (("latent", 0, 1, "<b>", 1, *HAZE), "got &#x27;&lt;b&gt;&#x27;"),
        (("latent", 0, [1], 0, 1, *HAZE), "expected a text or a number"),
        (("<img src=x>", 0, 1, 0, 1, *HAZE), "task: expected one of latent, haze"),
        ((["latent"], 0, 1, 0, 1, *HAZE), "expected a text or a number"),
        (("latent", 0, 1, 0), "expected 8 values, got 5"),
        (("latent", 0, 1, 0, 1, 2, "keep"), "distance: expected a number from 0 to 1, got 2"),
        (("latent", 0, 1, 0, 1, 1, "bright"), "exposure: expected one of keep, auto, "),
        (("haze", 0, 3, 0, 1, 1, "keep"), "strength: expected a number from -2 to 2, got 3"),
    ],
)
def test_wrong_values_are_one_line(client, photo, values, message):
    success, output = client.restore(file(photo), *values)
    assert not success
    assert message in output["error"]
    assert "<" not in output["error"]
    assert photo not in output["error"]


def test_a_slider_gives_a_preview_and_the_button_then_the_file(client, photo, tmp_path):
    """A move of a slider without a photo, or after the choice of another one, does nothing."""
    first = (file(photo), "haze", 0, 1, 0, 1, *HAZE)
    moved = (file(photo), "haze", 0, -1, 0, 1, 0.5, "auto")
    skipped = {"__type__": "update"}

    def picture(output):
        return output["data"][0][1]["path"]

    assert client.restore(*moved, function=4)[1]["data"][0] == skipped
    success, output = client.restore(*first)
    assert success
    restored = picture(output)
    success, output = client.restore(*moved, function=4)
    assert success
    assert picture(output) != restored
    assert output["data"][1] is None
    assert "Preview" in output["data"][2]
    success, output = client.restore(*moved)
    assert len(output["data"][1]) == 1
    assert client.restore(*first[:3], 9, *first[4:], function=4)[0] is False
    other = client.upload(photo_16(tmp_path / "b.png", 30, 40).read_bytes())[1]
    chosen = (file(other), *first[1:])
    assert client.restore(*chosen, function=4)[1]["data"][0] == skipped
    assert client.restore(*moved, function=4)[1]["data"][0] == skipped


def test_functions_of_the_page_are_not_called_past_the_queue(client, photo):
    asked = {"data": [file(photo), *SMALL], "fn_index": 0, "session_hash": "x"}
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
    success, output = client.restore(file(path), *SMALL)
    assert success
    (written,) = output["data"][1]
    assert written["path"].startswith(f"{folder}/served/")
    assert "<" not in written["orig_name"]


def test_uploads_have_limits(client):
    assert client.upload(bytes(9 * MB))[0] == 413
    for number in range(8):
        status, path = client.upload(bytes([number]) * (7 * MB))
        assert status == 200
    assert client.ask("GET", f"/gradio_api/file={path}")[0] == 200


def test_the_slot_is_free_when_the_tab_is_closed(client, page, large, photo):
    assert client.join(file(large), *LONG)[0] == 200
    with client.waiting() as messages:
        begin(messages)
    start = time.monotonic()
    assert Client(page[0], "another").restore(file(photo), *SMALL)[0]
    assert time.monotonic() - start < 10


def test_the_slot_is_free_when_a_tab_never_asks_for_its_results(client, page, large, photo):
    assert client.join(file(large), *LONG)[0] == 200
    start = time.monotonic()
    assert Client(page[0], "another").restore(file(photo), *SMALL)[0]
    assert time.monotonic() - start < 30


def test_cancel_stops_the_restoration(client, page, large, photo):
    _, event = client.join(file(large), *LONG)
    with client.waiting() as messages:
        begin(messages)
        cancel = {"session_hash": client.session, "fn_index": 0} | event
        assert client.post("cancel", cancel)[0] == 200
        pressed = {"data": [], "fn_index": 1, "session_hash": client.session}
        assert "Cancelled" in client.post("run/predict", pressed)[2]
        start = time.monotonic()
        assert Client(page[0], "another").restore(file(photo), *SMALL)[0]
        assert time.monotonic() - start < 10


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_page_during_a_restoration(end, tiny_checkpoint, tmp_path):
    large = photo_16(tmp_path / "large.png", 900, 900).read_bytes()
    argv = ("--weights", tiny_checkpoint("latent"))
    with served(tmp_path, *argv, end=end) as (address, process):
        client = Client(address, "a")
        client.join(file(client.upload(large)[1]), *LONG)
        with client.waiting() as messages:
            begin(messages)
            process.send_signal(end)
            assert all(m["msg"] != "process_generating" for m in messages)  # the stream ends


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
        client.join(file(path), *SMALL)
        with client.waiting() as messages:
            begin(messages)
