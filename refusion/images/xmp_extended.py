"""Extended XMP packets of JPEG files (XMP specification, part 3): joining and splitting.

A segment of a JPEG holds 64 KB. The properties that do not fit are in an extended packet, whose
name, a digest, is a property of the first packet.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from refusion.images.xml_edit import (
    ATTRIBUTE,
    MAX_BYTES,
    TAG,
    XmlError,
    edited,
    parse,
    safe_parser,
    split_name,
    utf8,
)
from refusion.images.xmp import EXTENDED, NOTE, RDF

_MAX_PREFIXES = 200


def joined_xmp(xmp: bytes, extended: bytes) -> bytes | None:
    """One packet with the properties of a packet and of its extended packet; None if impossible."""
    try:
        main, _ = edited(xmp, lambda name: name == EXTENDED)
        main, extended = utf8(main), utf8(extended)
        end, descriptions = _rdf(main)[0], _rdf(extended)[1]
    except XmlError:
        return None
    if end is None:
        return None
    return main[:end] + b"".join(descriptions) + main[end:]


def with_description(xmp: bytes | None, description: bytes) -> bytes | None:
    """Add a description, which declares its prefixes, to a packet; None if impossible.

    Args:
        xmp: packet; None for a new packet.
        description: element rdf:Description.
    """
    if xmp is None:
        rdf = b'<rdf:RDF xmlns:rdf="' + RDF.encode() + b'">' + description + b"</rdf:RDF>"
        return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + b"</x:xmpmeta>"
    try:
        text = utf8(xmp)
        end = _rdf(text)[0]
    except XmlError:
        return None
    return None if end is None else text[:end] + description + text[end:]


def split_xmp(xmp: bytes) -> tuple[bytes, bytes] | None:
    """Make a short packet that names an extended packet, and the extended packet.

    Returns:
        Both packets; None if the packet is not well-formed.
    """
    try:
        text = utf8(xmp)
        parse(safe_parser(), text)
    except XmlError:
        return None
    name = hashlib.md5(text, usedforsecurity=False).hexdigest().upper().encode()
    main = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="' + RDF.encode() + b'">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="' + NOTE.encode() + b'" xmpNote:'
        b'HasExtendedXMP="' + name + b'"/></rdf:RDF></x:xmpmeta>'
    )
    return main, text


def _rdf(packet: bytes) -> tuple[int | None, list[bytes]]:
    """Offset of the closing tag of rdf:RDF, and its descriptions, which declare their prefixes."""
    parser, open_tags, found, length = safe_parser(), [], [], 0
    prefixes: dict[str | None, str] = {}  # declared by rdf:RDF and the elements around it
    end, is_inside = None, False

    def declare(prefix: str | None, uri: str) -> None:
        if not is_inside:
            prefixes[prefix] = uri

    def start(tag: str, _: list[str]) -> None:
        nonlocal is_inside
        is_inside |= split_name(tag) == (RDF, "RDF")
        if len(prefixes) > _MAX_PREFIXES:
            raise XmlError("too many prefixes")
        open_tags.append((split_name(tag), parser.CurrentByteIndex))

    def close(_: str) -> None:
        nonlocal end, length
        name, begin = open_tags.pop()
        at = parser.CurrentByteIndex
        is_closing = packet.startswith(b"</", at)
        if name == (RDF, "RDF"):
            end = at if is_closing else None
        elif open_tags and open_tags[-1][0] == (RDF, "RDF"):
            last = packet.index(b">", at) + 1 if is_closing else at
            found.append(_with_prefixes(packet[begin:last], prefixes))
            length += len(found[-1])
            if length > MAX_BYTES:  # each one repeats the prefixes
                raise XmlError("too long")

    parser.StartNamespaceDeclHandler = declare
    parser.StartElementHandler, parser.EndElementHandler = start, close
    parse(parser, packet)
    return end, found


def _with_prefixes(element: bytes, prefixes: Mapping[str | None, str]) -> bytes:
    """The element with those declarations of prefixes that its own tag does not have."""
    from xml.sax.saxutils import quoteattr  # slow: imports the modules of HTTP

    tag = TAG.match(element)
    own = {part[1] for part in ATTRIBUTE.finditer(element, 0, tag.end() if tag else 0)}
    end = re.match(rb"<[^\s/>]+", element).end()
    added = b"".join(
        b" " + key + b"=" + quoteattr(uri).encode()
        for key, uri in (
            (b"xmlns" + (b":" + p.encode() if p else b""), u) for p, u in prefixes.items()
        )
        if key not in own
    )
    return element[:end] + added + element[end:]
