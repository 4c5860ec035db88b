"""Where a model is guessing: the spread of several draws of one photo, and its picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from refusion.data.image_io import write_image
from refusion.data.photo import Photo

WHITE = 0.1
"""Standard deviation, of full scale, that a map shows as white; larger ones are white too."""

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt>'
    "</dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def mean_and_spread(draws: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over draws, of which one is held at a time (Welford 1962).

    Args:
        draws: photos (3 * views, H, W), float in [0, 1], two or more; they are overwritten.

    Returns:
        Mean (3 * views, H, W), and per view and pixel the standard deviation (views, H, W), root
        of the variance's mean over the three channels, estimated with n - 1.
    """
    draws = iter(draws)
    mean, count = next(draws), 1
    views = len(mean) // 3
    squares = mean.new_zeros(views, *mean.shape[1:])
    # Not `enumerate`, which holds the last draw while the next one is made.
    for draw in draws:
        count += 1
        # In place: at 100 megapixels each copy of a photo takes more than a gigabyte.
        draw.sub_(mean)
        mean.add_(draw, alpha=1 / count)
        # (x - old mean) (x - new mean), the second factor being (count - 1) / count of the first.
        parts = draw.square_().unflatten(0, (views, 3)).mean(dim=1)
        squares.add_(parts, alpha=(count - 1) / count)
        del draw, parts
    return mean, squares.div_(count - 1).sqrt_()


def write_map(path: Path, spread: Tensor) -> None:
    """Write standard deviations (H, W) in [0, 1] units as a 16-bit gray PNG, white = `WHITE`.

    The file's XMP description says so.

    Raises:
        ImageError: it cannot be written.
    """
    text = f"Standard deviation over draws; white = {WHITE:g} of full scale, black = 0"
    image = (spread / WHITE).expand(3, -1, -1)
    photo = Photo(image, mode="gray", bit_depth=16, xmp=_XMP.format(text).encode())
    write_image(path, image, photo)
