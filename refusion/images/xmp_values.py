"""Values of properties in XMP packets (ISO 16684-1), without a change of the packet."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from refusion.images.xml_edit import Name, XmlError, parse, safe_parser, split_name, utf8
from refusion.images.xmp import RDF

LIST_ITEM = (RDF, "li")
"""Name of a list item, which `properties` gives with an empty value where the item begins."""


def properties(xmp: bytes | None, spaces: Collection[str]) -> list[tuple[Name, str]]:
    """Names and values of the properties of some namespaces, in the order of the packet.

    A property is an attribute or an element with text. Items of lists are given as `LIST_ITEM`.

    Args:
        xmp: packet; None for no packet.
        spaces: the namespaces.

    Returns:
        The properties; an empty list if the packet is damaged or not safe to read.
    """
    if xmp is None or not any(space.encode() in xmp for space in spaces):
        return []
    found: list[tuple[Name, str]] = []
    texts: list[list[str]] = []  # of the open elements
    parser = safe_parser()

    def start(tag: str, attributes: list[str]) -> None:
        texts.append([])
        if split_name(tag) == LIST_ITEM:
            found.append((LIST_ITEM, ""))
        pairs = zip(map(split_name, attributes[::2]), attributes[1::2], strict=True)
        found.extend((name, value) for name, value in pairs if name[0] in spaces)

    def text(part: str) -> None:
        texts[-1].append(part)

    def end(tag: str) -> None:
        name, value = split_name(tag), "".join(texts.pop()).strip()
        if value and name[0] in spaces:
            found.append((name, value))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parse(parser, utf8(xmp))
    except XmlError:
        return []
    return found


def items_of(xmp: bytes | None, spaces: Collection[str]) -> list[Mapping[str, str]]:
    """Properties of the items of lists, by local name; items without such a property are left out.

    Args:
        xmp: packet; None for no packet.
        spaces: namespaces of the properties.
    """
    items: list[dict[str, str]] = []
    for (space, local), value in properties(xmp, spaces):
        if (space, local) == LIST_ITEM:
            items.append({})
        elif items:
            items[-1].setdefault(local, value)
    return [item for item in items if item]
