"""Which requests the page answers, by their headers."""

import socket

import pytest

from refusion.app.origins import checked_name, host_names, is_loopback, refusal

LOCAL = host_names("127.0.0.1")
PROXIED = host_names("127.0.0.1", ["photos.example.org"])


def refused(names=LOCAL, method="POST", **headers):
    """Why a request is refused; the names of headers have `_` for `-`."""
    headers = {"host": "127.0.0.1:7860"} | headers
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return refusal(method, pairs, names)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "localhost.:80", "[::1]:7860", "[::1]",
     "192.168.1.5:7860", "localhost:8000", "[::ffff:127.0.0.1]:1"],
)  # fmt: skip
def test_own_names_and_numeric_addresses_are_answered(host):
    assert refused(host=host) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860",
     "evil.localhost", "2130706433", "0x7f000001", "127.1", "", " ", "::1", "[::1", "localhost:x",
     "localhost:7860:1", "user@localhost", "localhost/evil.example", "localhost, evil.example",
     "evil.example#localhost", "\xe9vil.example", "photos.example.org"],
)  # fmt: skip
def test_other_host_names_are_refused(host):
    assert "--allow-host" in refused(host=host)


def test_a_request_has_one_host():
    assert refusal("GET", [], LOCAL)
    assert refusal("GET", [(b"host", b"localhost"), (b"host", b"127.0.0.1")], LOCAL)


def test_the_message_names_the_option_without_control_characters():
    assert refused(host="box.example").endswith("--allow-host box.example")
    long = refused(host="\x1b[31m" + "x" * 5000)
    assert long.isprintable()
    assert len(long) < 300


def test_the_host_that_a_proxy_forwards_is_checked_too():
    assert refused(x_forwarded_host="evil.example")
    assert refused(x_forwarded_host="localhost, evil.example")
    assert refused(PROXIED, x_forwarded_host="photos.example.org") is None


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.example", "http://evil.example:7860", "http://localhost:3000",
     "http://localhost", "https://127.0.0.1", "http://127.0.0.1:78600", "127.0.0.1:7860",
     "http://127.0.0.1:7860@evil.example", "http://127.0.0.1:7860.evil.example",
     "http://[::1]:7860", "chrome-extension://abc", "file://", "http://[", "ftp://127.0.0.1:7860"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", ""])
def test_other_origins_are_refused(origin, method):
    assert "other web pages" in refused(method=method, origin=origin)


def test_the_own_origin_is_answered_and_so_is_a_program_without_origin():
    assert refused() is None
    assert refused(origin="http://127.0.0.1:7860") is None
    assert refused(host="localhost", origin="http://localhost") is None
    assert refused(host="localhost:80", origin="http://LOCALHOST") is None
    assert refused(host="[::1]:7860", origin="http://[::1]:7860") is None


def test_every_origin_counts():
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"null")]
    assert refusal("POST", headers, LOCAL)


def test_names_behind_a_proxy():
    own = "https://photos.example.org"
    assert refused(PROXIED, host="photos.example.org", origin=own) is None
    assert refused(PROXIED, origin=own) is None  # a proxy that does not pass the name on
    assert refused(PROXIED, host="photos.example.org", origin=f"{own}:8443")
    assert refused(PROXIED, host="photos.example.org", origin="https://evil.example")
    assert refused(LOCAL, origin=own)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "unknown", ""])
def test_requests_of_other_sites_are_refused_by_fetch_metadata(site):
    assert refused(sec_fetch_site=site)
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert refused(**link)  # a form of another site
    assert refused(method="GET", **link) is None  # a link to the page
    assert refused(method="GET", **link | {"sec_fetch_dest": "iframe"})
    assert refused(method="GET", **link | {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"})


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_requests_of_the_page_and_of_the_user_are_answered(site):
    assert refused(sec_fetch_site=site) is None


def test_a_server_for_other_machines_knows_the_names_of_this_one(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.corp.example")
    names = host_names("0.0.0.0")
    for host in ("box.corp.example:7860", "box.local", "localhost", "10.0.0.7:7860"):
        assert refused(names, host=host) is None
    assert refused(names, host="evil.example")
    assert refused(names, host="box.evil.example")
    assert refused(host_names("photos.lan"), host="photos.lan:7860") is None
    assert refused(LOCAL, host="box.local")


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


@pytest.mark.parametrize(
    "text", ["", "*", "*.example.org", "a b", "https://a.example", "a.example:80", "a/b", "-a",
             "x" * 300, "a..b", "\x1b"]
)  # fmt: skip
def test_what_is_no_host_name(text):
    with pytest.raises(ValueError, match="expected a host name"):
        checked_name(text)


def test_host_names_are_those_that_browsers_send():
    assert checked_name("Photos.Example.ORG.") == "photos.example.org"
    assert checked_name("bücher.example") == "xn--bcher-kva.example"
