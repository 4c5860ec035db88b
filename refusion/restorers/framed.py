"""Photos in a frame: models that judge a whole photo get the part inside of its frame."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from refusion.images.frame import WHOLE, Area, inside_frame
from refusion.images.samples import store
from refusion.restorers.contract import keep_flat_photos


def common_area(photos: Tensor) -> Area:
    """The part inside of the frame that all photos of a batch have, see `inside_frame`.

    Args:
        photos: (B, C, H, W), integers or float in [0, 1].
    """
    areas = _areas(photos)
    tops, bottoms = zip(*(area.rows for area in areas), strict=True)
    lefts, rights = zip(*(area.columns for area in areas), strict=True)
    return Area((min(tops), max(bottoms)), (min(lefts), max(rights)))


def frames_differ(photos: Tensor) -> bool:
    """Whether the photos of a batch (B, C, H, W) have different frames, see `common_area`."""
    return len(photos) > 1 and len(set(_areas(photos))) > 1


def _areas(photos: Tensor) -> list[Area]:
    return [inside_frame(photo.cpu().numpy()) for photo in photos]


def restored_inside(restore: Callable[[Tensor], Tensor], photos: Tensor, task: str) -> Tensor:
    """Photos whose part inside of the frame is restored; the frame stays as it is.

    A part of one colour stays as it is.

    Args:
        restore: restores photos of any size; float results for integers are allowed.
        photos: (B, C, H, W), integers or float in [0, 1], whose frames do not differ.
        task: of the model; what `inpaint` fills may be at the border, so it has no frames.
    """
    if task == "inpaint":
        return restore(photos)
    area = common_area(photos)
    if area == WHOLE:
        return restore(photos)
    out, inside = photos.clone(), area.of(photos)
    result, target = keep_flat_photos(restore(inside), inside), area.of(out)
    if result.dtype == target.dtype:
        target.copy_(result)
    else:
        store(result, target)
    return out
