"""Disparity maps for photos: which map belongs to which photo, and a picture of a map.

Portrait photos of phones have maps of their own, which are used if no other map is given.
"""

from __future__ import annotations

from pathlib import Path

from refusion.app.preview import SIDE
from refusion.app.values import Settings
from refusion.batch.disparity_maps import DisparityMaps
from refusion.cli.options.bokeh import SHARP
from refusion.errors import ImageError
from refusion.images.depth_map import has_depth_map
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.resize import shrink
from refusion.images.size import count_pixels
from refusion.optics.disparity import read_own_disparity
from refusion.optics.lens import lens_number


def map_of(photo: Path, settings: Settings) -> Path | None:
    """File of the map of a photo; None if the photo has a map itself.

    Args:
        photo: one of the photos.
        settings: the photos and the maps. One photo takes the only map; several take the maps with
            their names.

    Raises:
        ImageError: there is no such map.
    """
    maps = settings.maps
    if not maps and _has_map(photo):
        return None
    if len(maps) == 1 == len(settings.photos):
        return maps[0]
    found = [file for file in maps if file.stem == photo.stem]
    if len(found) == 1:
        return found[0]
    if not maps:
        raise ImageError(f"{photo.name}: has no depth map of its own; add one")
    if len(settings.photos) == 1:
        raise ImageError("depth map: expected one map for one photo; remove the others")
    raise ImageError(
        f"{photo.name}: expected one depth map with the name {photo.stem}, found {len(found)}; "
        "several photos take maps with their names"
    )


def lacks_map(photo: Path, settings: Settings) -> bool:
    """Whether no map is given and a photo has none itself.

    Args:
        photo: one of the photos.
        settings: the maps.
    """
    return not settings.maps and not _has_map(photo)


def _has_map(photo: Path) -> bool:
    """Whether a photo has a map; a broken one is reported when it is read."""
    try:
        return has_depth_map(photo)
    except ImageError:
        return False


def disparity_maps(photo: Path, settings: Settings, *, rendered: bool = False) -> DisparityMaps:
    """The disparity map and the lenses for a photo, as the option `--aperture` sets them.

    Args:
        photo: one of the photos.
        settings: maps, aperture and focus.
        rendered: whether they are for a renderer, see `DisparityMaps`.

    Raises:
        ImageError: there is no map for the photo, or it is too large.
    """
    file, limit = map_of(photo, settings), settings.options.max_pixels
    if file is not None and count_pixels(file) > limit:
        raise ImageError(f"{file.name}: more than {limit / 1e6:g} million pixels; reduce the map")
    target = lens_number(f"Canon50mmf{settings.aperture:.4f}BS")
    source = lens_number(SHARP)
    return DisparityMaps(file, source, target, focus=settings.focus, rendered=rendered)


def write_map_picture(photo: Path, settings: Settings, folder: Path) -> Path:
    """Write a reduced copy of the map of a photo for the page; returns its file.

    Args:
        photo: one of the photos.
        settings: the maps, and the limit of their pixels.
        folder: folder for the picture.

    Raises:
        ImageError: there is no map, it cannot be read, or it is too large.
    """
    file = map_of(photo, settings)
    if file is None:
        samples = read_own_disparity(photo).expand(1, 3, -1, -1)
    else:
        samples = read_image(file, max_pixels=settings.options.max_pixels).samples[None]
    small = shrink(samples, SIDE)[0]
    darkest, brightest = small.min(), small.max()
    small = (small - darkest) / (brightest - darkest).clamp_min(1e-6)
    write_image(folder / "depth.png", small, Photo(small, mode="gray"))
    return folder / "depth.png"
