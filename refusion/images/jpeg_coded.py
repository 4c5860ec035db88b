"""The coded pixels of a JPEG file, cut out for a decoder that looks for damage."""

from __future__ import annotations

from refusion.images.source import Source

LONGEST, LEAST_LONG = 4, 1 << 16
"""A picture has at most as many coded bytes: per byte of the samples, and in addition."""
_RESTARTS = b"\xff\xdd\x00\x04"  # segment with the number of blocks between restart markers
_SCAN = b"\xff\xda"
_MARKERS = range(0xD0, 0xD8)  # restart markers, which follow each other in a circle


def coded_part(source: Source, end: int) -> bytes:
    """The parts of a JPEG file that the decoder needs, up to an offset.

    Args:
        source: the JPEG file.
        end: offset in the file.
    """
    parts = [source.head]
    for begin, last in source.pixels:
        source.file.seek(begin)
        parts.append(source.file.read(max(0, min(last, end) - begin)))
    return b"".join(parts)


def next_restart(coded: bytes) -> bytes:
    """The restart marker that follows if the picture is not complete; empty if there are none.

    Args:
        coded: a JPEG file up to the end of its coded pixels.
    """
    if _RESTARTS not in coded:
        return b""
    places = [coded.rfind(b"\xff%c" % marker) for marker in _MARKERS]
    last = max(range(len(places)), key=places.__getitem__)
    following = 0 if places[last] < coded.rfind(_SCAN) else (last + 1) % len(places)
    return b"\xff%c" % _MARKERS[following]
