"""Edits XML in place: only the removed and replaced parts change, all other bytes stay.

A document with a document type is refused, because its entities can expand without limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_BYTES = 1 << 25
"""Length of the longest document that is parsed."""

_MAX_TAGS = 1_000_000  # and as many attributes
_LONGEST_VALUE = 100  # of a removed element; values are names and numbers
TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*(/?)>""")
ATTRIBUTE = re.compile(rb"""(?<!\s)\s+([^\s=/>]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
Name = tuple[str, str]  # namespace and local name


class XmlError(ValueError):
    """A document is not well-formed, is too long, or has a document type."""


@dataclass
class _Editor:
    """Handlers of one pass over a packet. Positions are byte offsets.

    Attributes:
        packet: the packet in UTF-8.
        parser: the parser that calls the handlers.
        is_removed: whether an attribute or element of this name is removed.
        values: new values of attributes and elements, by name.
        unneeded: namespaces whose declarations are removed if nothing uses them any more.
        cuts: begin, end and new content of the changed places.
        removed: names, and the values of attributes and elements, of what is removed.
        kept: namespaces that are still used.
        declared: namespace and place of each declaration of a prefix.
        depth: number of open elements.
        hole: depth and begin of the removed element that is open.
        target: depth, begin of the content and name of the open element that gets a new value.
    """

    packet: bytes
    parser: expat.XMLParserType
    is_removed: Callable[[Name], bool]
    values: Mapping[Name, bytes]
    unneeded: Collection[str]
    cuts: list[tuple[int, int, bytes]] = field(default_factory=list)
    removed: list[tuple[Name, str]] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    declared: list[tuple[str, int, int]] = field(default_factory=list)
    depth: int = 0
    hole: tuple[int, int] | None = None
    target: tuple[int, int, Name] | None = None

    def start(self, tag: str, attributes: list[str]) -> None:
        self.depth += 1
        begin = self.parser.CurrentByteIndex
        match = TAG.match(self.packet, begin)
        if match is None:
            raise XmlError("a tag that is not understood")
        name = split_name(tag)
        found = list(ATTRIBUTE.finditer(self.packet, begin, match.end()))
        plain = [part for part in found if not re.match(rb"xmlns(:|$)", part[1])]
        named = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if self.hole is None and self.is_removed(name):
            self.hole = self.depth, begin
        if self.hole is not None:
            self.removed += [(split_name(key), value) for key, value in named.items()]
            self.removed.append((name, ""))  # `text` adds the text of the element
            return
        self.kept.add(name[0])
        if name in self.values and not match[1]:
            self.target = self.depth, match.end(), name
        for part in found:
            if part not in plain:
                self.declared.append((_text(part), *part.span()))
        for part, (key, value) in zip(plain, named.items(), strict=True):
            self._attribute(part, split_name(key), value)

    def _attribute(self, part: re.Match[bytes], name: Name, value: str) -> None:
        if self.is_removed(name):
            self.removed.append((name, value))
            self.cuts.append((*part.span(), b""))
            return
        self.kept.add(name[0])
        if name in self.values:
            place = part.span(2 if part[2] is not None else 3)
            self.cuts.append((*place, self.values[name]))

    def text(self, text: str) -> None:
        if self.hole is not None:
            name, value = self.removed[-1]
            if len(value) < _LONGEST_VALUE:
                self.removed[-1] = name, value + text.strip()

    def end(self, tag: str) -> None:
        at = self.parser.CurrentByteIndex
        if self.hole is not None and self.hole[0] == self.depth:
            # Behind an empty element the position is its end, else it is the closing tag.
            is_closing = self.packet.startswith(b"</", at)
            end = self.packet.index(b">", at) + 1 if is_closing else self._empty_end(at)
            self.cuts.append((self.hole[1], end, b""))
            self.hole = None
        elif self.target is not None and self.target[0] == self.depth:
            _, begin, name = self.target
            self.cuts.append((begin, at, self.values[name]))
            self.target = None
        self.depth -= 1

    def _empty_end(self, at: int) -> int:
        match = TAG.match(self.packet, self.hole[1])
        return match.end() if match and match[1] else at

    def result(self) -> bytes:
        unused = {*self.unneeded} - self.kept if self.cuts else set()
        self.cuts += [(*place, b"") for namespace, *place in self.declared if namespace in unused]
        parts, at = [], 0
        for begin, end, content in sorted(self.cuts):
            if begin >= at:  # else it is inside a longer cut
                parts += [self.packet[at:begin], content]
                at = end
        return b"".join([*parts, self.packet[at:]])


def _text(part: re.Match[bytes]) -> str:
    return (part[2] if part[2] is not None else part[3]).decode("utf-8", "replace")


def split_name(expanded: str) -> Name:
    """Namespace and local name of a name as `safe_parser` gives it."""
    namespace, _, local = expanded.rpartition("\n")
    return namespace, local


def edited(
    packet: bytes,
    is_removed: Callable[[Name], bool],
    values: Mapping[Name, bytes] | None = None,
    unneeded: Collection[str] = (),
) -> tuple[bytes, list[tuple[Name, str]]]:
    """Remove properties from an XML document and set values.

    Args:
        packet: the document.
        is_removed: whether an attribute or element of this name is removed.
        values: new values of attributes and elements, by name.
        unneeded: namespaces whose declarations are removed if nothing uses them any more.

    Returns:
        The packet, and names and values of what is removed.

    Raises:
        XmlError: the packet is not well-formed, has a document type, or is too long.
    """
    text = utf8(packet)
    parser = safe_parser()
    editor = _Editor(text, parser, is_removed, values or {}, unneeded)
    parser.StartElementHandler, parser.EndElementHandler = editor.start, editor.end
    parser.CharacterDataHandler = editor.text
    parse(parser, text)
    return (editor.result() if editor.cuts else packet), editor.removed


def safe_parser() -> expat.XMLParserType:
    """Create a parser of UTF-8 that refuses a document type and resolves namespaces."""

    def refuse(*_: object) -> None:
        raise XmlError("a document type")

    parser = expat.ParserCreate("utf-8", "\n")
    parser.ordered_attributes = True
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    return parser


def parse(parser: expat.XMLParserType, text: bytes) -> None:
    """Parse a whole document; `XmlError` if it is not well-formed or too large."""
    if text.count(b"<") > _MAX_TAGS or text.count(b"=") > _MAX_TAGS:
        raise XmlError("too many tags or attributes")
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError, UnicodeError) as error:
        raise XmlError(str(error)) from error


def utf8(packet: bytes) -> bytes:
    """The packet in UTF-8, without zero bytes at its end."""
    if len(packet) > MAX_BYTES:
        raise XmlError("too long")
    if b"\0" in packet[:8]:
        is_little = packet.startswith((b"\xff\xfe", b"<\0"))
        try:
            text = packet.decode("utf-16-le" if is_little else "utf-16-be")
        except UnicodeDecodeError as error:
            raise XmlError("unknown encoding") from error
        return text.lstrip("\ufeff").encode()
    return packet.rstrip(b"\0")
