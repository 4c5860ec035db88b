"""What metrics share: the facts about one, and the mean of an error map in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.errors import ConfigError, ImageError, suggest

STRIP_PIXELS = 1 << 18  # SSIM of a 24-megapixel pair then needs 60 MB and runs fastest


@dataclass(frozen=True)
class Metric:
    """A metric and the facts needed to report it."""

    name: str
    """The word used in tables and options."""
    function: Callable[..., Tensor]
    """`(image, target, *, crop_border=0) -> (B,)`, float64 on the CPU; see also `channels`."""
    higher_is_better: bool
    value_range: tuple[float, float]
    """Smallest and largest value for images in [0, 1]."""
    identity: float
    """Value when image and target are equal; nan without reference."""
    stated: str = "RGB, data range 1, no border cut"
    """How the numbers came about: unit, channels, data range, border."""
    needs_target: bool = True
    """False for a no-reference metric, `(image, *, crop_border=0) -> (B,)`."""
    unit: str = ""
    """Unit and settings of the metric, the first words of what `reported_metrics` states."""
    channels: tuple[str, ...] = ("rgb",)
    """Keys of `CHANNELS` that are reported; `function` is given `channel` only if there are two."""


def rgb(image: Tensor) -> Tensor:
    """All three channels, unchanged: (B, 3, H, W) -> (B, 3, H, W)."""
    return image


def y(image: Tensor) -> Tensor:
    """BT.601 luma in studio range, (B, 3, H, W) in [0, 1] -> (B, 1, H, W) in [16/255, 235/255].

    This is MATLAB's `rgb2ycbcr`, the convention of published "PSNR on Y" numbers, with the peak
    still at 1 (255 levels). Against full-range luma it adds 20 log10(255 / 219) = 1.32 dB.

    >>> y(torch.ones(1, 3, 1, 1)).item() * 255  # doctest: +ELLIPSIS
    235.0...
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((image * weights).sum(dim=1, keepdim=True) + 16) / 255


CHANNELS = {"rgb": rgb, "y": y}


def cropped_pair(image: Tensor, target: Tensor, crop_border: int) -> tuple[Tensor, Tensor]:
    """Check that two images can be compared and cut `crop_border` pixels off each side.

    Args:
        image: floating-point RGB, shape (B, 3, H, W), in [0, 1].
        target: the same shape.
        crop_border: pixels to leave out on every side, >= 0 and less than half of each side.

    Returns:
        Views of both, shape (B, 3, H - 2 crop_border, W - 2 crop_border).

    Raises:
        ImageError: shapes differ or are not (B, 3, H, W), values are not floating point, or the
            border leaves nothing.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ImageError(
            "image: expected floating-point RGB of shape (B, 3, H, W) in [0, 1], "
            f"got {tuple(image.shape)} {image.dtype}"
        )
    if target.shape != image.shape or not target.is_floating_point():
        raise ImageError(
            f"target: expected floating point of the image's shape {tuple(image.shape)}, "
            f"got {tuple(target.shape)} {target.dtype}"
        )
    height, width = image.shape[-2:]
    if not 0 <= crop_border < (min(height, width) + 1) // 2:
        raise ImageError(
            f"crop_border: expected 0 <= border and 2 * border < {min(height, width)}, the shorter "
            f"side of the image, got {crop_border}"
        )
    rows, columns = (slice(crop_border, side - crop_border) for side in (height, width))
    return image[..., rows, columns], target[..., rows, columns]


def rgb_pair(
    name: str, image: Tensor, target: Tensor, crop_border: int, channel: str
) -> tuple[Tensor, Tensor]:
    """`cropped_pair` for a metric whose network was trained on RGB.

    Raises:
        ImageError: see `cropped_pair`.
        ConfigError: another channel than "rgb".
    """
    if channel != "rgb":
        raise ConfigError(f"channel: {name} is defined on rgb, got {channel!r}")
    return cropped_pair(image, target, crop_border)


def mean_of_map(
    pixel_map: Callable[[Tensor, Tensor], Tensor],
    image: Tensor,
    target: Tensor,
    *,
    channel: str,
    overlap: int = 0,
) -> Tensor:
    """Mean over each image of a local comparison, computed in strips of rows.

    Args:
        pixel_map: `(image, target) -> map` on float32 (B, C, h, W), `overlap` rows fewer out.
        image: shape (B, 3, H, W).
        target: shape (B, 3, H, W).
        channel: "rgb" (mean over the three) or "y" (BT.601 luma, see `y`).
        overlap: rows that neighbouring strips share, so that the maps join without gap or repeat.

    Returns:
        Means, shape (B,), float64 on the CPU whatever the device of the images.

    Raises:
        ConfigError: `channel` is unknown.
    """
    if channel not in CHANNELS:
        raise ConfigError(f"channel: unknown value {channel!r}{suggest(channel, CHANNELS)}")
    total, count = torch.zeros(len(image), dtype=torch.float64), 0
    for part in _strips(image, overlap):
        pair = (CHANNELS[channel](whole[..., part, :].float()) for whole in (image, target))
        values = pixel_map(*pair)
        # Summed in float32 within a strip (torch sums pairwise), in float64 between strips.
        total += values.sum(dim=(1, 2, 3)).cpu().double()
        count += values[0].numel()
    return total / count


def _strips(image: Tensor, overlap: int) -> Iterator[slice]:
    batch, _, height, width = image.shape
    rows = max(STRIP_PIXELS // (batch * width), 1)
    for top in range(0, height - overlap, rows):
        yield slice(top, top + rows + overlap)
