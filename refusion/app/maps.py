"""Disparity maps for photos: which map belongs to which photo, and a picture of a map."""

from __future__ import annotations

from pathlib import Path

from refusion.app.preview import SIDE
from refusion.app.values import Settings
from refusion.batch.disparity_maps import DisparityMaps
from refusion.cli.options.bokeh import SHARP
from refusion.errors import ImageError
from refusion.images.io import read_image, write_image
from refusion.images.photo import Photo
from refusion.images.resize import shrink
from refusion.images.size import count_pixels
from refusion.optics.lens import lens_number


def map_of(photo: Path, settings: Settings) -> Path:
    """File of the map of a photo.

    Args:
        photo: one of the photos.
        settings: the photos and the maps. One photo takes the only map; several take the maps with
            their names.

    Raises:
        ImageError: there is no such map.
    """
    maps = settings.maps
    if len(maps) == 1 == len(settings.photos):
        return maps[0]
    found = [file for file in maps if file.stem == photo.stem]
    if len(found) == 1:
        return found[0]
    if len(settings.photos) == 1:
        raise ImageError("depth map: expected one map for one photo; remove the others")
    raise ImageError(
        f"{photo.name}: expected one depth map with the name {photo.stem}, found {len(found)}; "
        "several photos take maps with their names"
    )


def disparity_maps(photo: Path, settings: Settings) -> DisparityMaps:
    """The disparity map and the lenses for a photo, as the option `--aperture` sets them.

    Args:
        photo: one of the photos.
        settings: maps, aperture and focus.

    Raises:
        ImageError: there is no map for the photo, or it is too large.
    """
    file, limit = map_of(photo, settings), settings.options.max_pixels
    if count_pixels(file) > limit:
        raise ImageError(f"{file.name}: more than {limit / 1e6:g} million pixels; reduce the map")
    target = lens_number(f"Canon50mmf{settings.aperture:.4f}BS")
    return DisparityMaps(file, lens_number(SHARP), target, focus=settings.focus)


def write_map_picture(file: Path, max_pixels: int, folder: Path) -> Path:
    """Write a reduced copy of a map for the page; returns its file.

    Args:
        file: the map.
        max_pixels: larger maps are refused before they are decoded.
        folder: folder for the picture.

    Raises:
        ImageError: the map cannot be read, or it is too large; one line without its folder.
    """
    try:
        photo = read_image(file, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(str(error).replace(f"{file.parent}/", "")) from error
    samples = shrink(photo.samples[None], SIDE)[0]
    darkest, brightest = samples.min(), samples.max()
    samples = (samples - darkest) / (brightest - darkest).clamp_min(1e-6)
    write_image(folder / "depth.png", samples, Photo(samples, mode="gray"))
    return folder / "depth.png"
