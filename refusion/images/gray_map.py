"""Maps of values per pixel as 16-bit gray images, which say in their metadata what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refusion.images.io import write_image
from refusion.images.photo import Photo

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'
    "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def write_gray(path: Path, values: np.ndarray, description: str) -> None:
    """Write values as a 16-bit gray image, with a description in its XMP metadata.

    Args:
        path: a .png or .tif file.
        values: (H, W) or (1, H, W), clamped to [0, 1]; 0 is black, 1 is white.
        description: plain text without characters that XML escapes.

    Raises:
        ImageError: the file cannot be written.
    """
    image = np.broadcast_to(values, (3, *values.shape[-2:]))
    photo = Photo(image, mode="gray", bit_depth=16, xmp=_XMP.format(description).encode())
    write_image(path, image, photo)


def write_haze_map(path: Path, amount: np.ndarray) -> None:
    """Write a map of the haze.

    Args:
        path: a .png or .tif file.
        amount: 1 - t, (1, H, W) in [0, 1]; 0 is black, 1 is white.

    Raises:
        ImageError: the file cannot be written.
    """
    write_gray(path, amount, "Haze, 1 - transmission; white = only haze, black = no haze")
