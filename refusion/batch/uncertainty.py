"""Uncertainty maps: the standard deviation of several samples of one photo, as a gray image."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from refusion.images.io import write_image
from refusion.images.photo import Photo

WHITE = 0.1
"""Standard deviation in [0, 1] units that a map shows as white; larger values are clipped."""

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'
    "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def write_map(path: Path, deviation: Tensor) -> None:
    """Write an uncertainty map as a 16-bit gray PNG; its XMP metadata describe the scale.

    Args:
        path: the .png file.
        deviation: standard deviations (H, W) in [0, 1] units; 0 is black, `WHITE` is white.

    Raises:
        ImageError: the file cannot be written.
    """
    text = f"Standard deviation over draws; white = {WHITE:g} of full scale, black = 0"
    write_gray(path, deviation / WHITE, text)


def write_gray(path: Path, values: Tensor, description: str) -> None:
    """Write values as a 16-bit gray image, with a description in its XMP metadata.

    Args:
        path: a .png or .tif file.
        values: (H, W) or (1, H, W), clamped to [0, 1]; 0 is black, 1 is white.
        description: plain text without characters that XML escapes.

    Raises:
        ImageError: the file cannot be written.
    """
    image = values.expand(3, -1, -1)
    photo = Photo(image, mode="gray", bit_depth=16, xmp=_XMP.format(description).encode())
    write_image(path, image, photo)
