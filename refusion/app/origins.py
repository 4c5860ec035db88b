"""Decides which requests the page answers: those for its own host names, from its own pages.

A page of another site can send requests to a server on the visitor's machine. A name that its
owner points to 127.0.0.1 even makes both one site for the browser (DNS rebinding). Therefore the
header Host must have a known name, and Origin and Sec-Fetch-Site must belong to this page.
https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Origin, Fetch metadata:
https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Headers = Sequence[tuple[bytes, bytes]]
"""Headers of an ASGI request; the names are in lower case."""

_PORTS = {"http": 80, "https": 443}  # used when an address names no port
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)


@dataclass(frozen=True)
class HostNames:
    """Host names of the page, in lower case. Addresses such as 127.0.0.1 are always accepted.

    Attributes:
        own: names of this machine.
        proxied: names under which a proxy serves the page.
    """

    own: frozenset[str]
    proxied: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        """Whether a name, or a numeric address, belongs to the page."""
        return _is_address(name) or name in self.own or name in self.proxied


def host_names(host: str, allowed: Iterable[str] = ()) -> HostNames:
    """The names of a page.

    Args:
        host: name or address that the server listens on.
        allowed: additional names, such as that of a proxy.

    >>> sorted(host_names("127.0.0.1", ["photos.example.org"]).own)
    ['localhost']
    """
    own = {"localhost"}
    if not is_loopback(host):
        machine = socket.gethostname().lower()
        own |= {host.lower(), machine, f"{machine.partition('.')[0]}.local"}  # .local: mDNS
    return HostNames(frozenset(own), frozenset(allowed))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def checked_name(text: str) -> str:
    """A host name as browsers send it, in lower case and ASCII.

    Raises:
        ValueError: the text is not a host name, for example because it has a port.

    >>> checked_name("Fotos.Müller.example")
    'fotos.xn--mller-kva.example'
    """
    try:
        name = text.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected a host name such as photos.example.org, got '{text[:80]}'")
    return name


def refusal(method: str, headers: Headers, names: HostNames) -> str | None:
    """Why a request must be refused, as one line; None if it may be answered.

    Args:
        method: method of the request, such as 'GET'; '' for a WebSocket.
        headers: headers of the request.
        names: host names of the page.
    """
    hosts = _values(headers, b"host")
    if len(hosts) != 1:
        return "the request needs one Host header"
    forwarded = [
        part.strip() for text in _values(headers, b"x-forwarded-host") for part in text.split(",")
    ]
    for host in (*hosts, *forwarded):
        name, _ = _name_and_port(host)
        if name not in names:
            return _unknown_host(name or host)
    for origin in _values(headers, b"origin"):
        if not _is_own_origin(origin, (*hosts, *forwarded), names):
            return "requests from other web pages are refused"
    return _refused_fetch(method, headers)


def _refused_fetch(method: str, headers: Headers) -> str | None:
    """Apply the headers Sec-Fetch-*: other sites may link to the page and nothing else."""
    if all(site in ("same-origin", "none") for site in _values(headers, b"sec-fetch-site")):
        return None
    is_link = (
        method in ("GET", "HEAD")
        and _values(headers, b"sec-fetch-mode") == ["navigate"]
        and _values(headers, b"sec-fetch-dest") == ["document"]
    )
    return None if is_link else "requests from other web pages are refused"


def _is_own_origin(origin: str, hosts: Iterable[str], names: HostNames) -> bool:
    """Whether an origin is this page: the host and port of the request, or those of a proxy."""
    try:
        parts = urlsplit(origin)
        default = _PORTS[parts.scheme]
    except (ValueError, KeyError):  # 'null', files and extensions of the browser are not the page
        return False
    name, port = _name_and_port(parts.netloc)
    if name is None:
        return False
    port = port or default
    own = {(host, number or default) for host, number in map(_name_and_port, hosts)}
    # A proxy can give its own address as Host.
    return (name, port) in own or (name in names.proxied and port == default)


def _name_and_port(host: str) -> tuple[str | None, int | None]:
    """Name in lower case without brackets and final dot, and port; None for what is missing."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None, None
    name = match[1].strip("[]").lower().removesuffix(".")
    return name, None if match[2] is None else int(match[2])


def _is_address(name: str | None) -> bool:
    """Whether a name is a numeric address, which no owner of a name can point elsewhere."""
    try:
        return name is not None and bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _unknown_host(host: str) -> str:
    shown = re.sub(r"[^A-Za-z0-9._:-]", "?", host[:80])
    return (
        f"'{shown}' is not a name of this page; use its numeric address, or start it with "
        f"--allow-host {shown}"
    )


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key == name]
