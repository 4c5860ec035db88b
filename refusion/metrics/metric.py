"""Parts that all metrics use: the description `Metric`, checks, channels and the mean of a map."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from refusion.arguments import check_arguments, is_whole
from refusion.errors import ConfigError, ImageError, short, suggest

STRIP_PIXELS = 1 << 18  # with this value SSIM of a 24-megapixel pair needs 60 MB and is fastest


@dataclass(frozen=True)
class Metric:
    """A metric and the information that is needed to report it.

    Raises:
        ConfigError: the function does not accept `crop_border`.
    """

    name: str
    """Name in tables and options."""
    function: Callable[..., Tensor]
    """`(image, target, *, crop_border=0) -> (B,)`, float64 on the CPU; see also `channels`."""
    higher_is_better: bool
    value_range: tuple[float, float]
    """Smallest and largest value for images in [0, 1]."""
    identity: float
    """Value when image and target are equal; nan without reference."""
    stated: str = "RGB, data range 1, no border cut"
    """Conditions of the measurement: unit, channels, data range, border."""
    needs_target: bool = True
    """False for a no-reference metric, `(image, *, crop_border=0) -> (B,)`."""
    unit: str = ""
    """Unit and settings of the metric; `reported_metrics` writes them at the start of `stated`."""
    channels: tuple[str, ...] = ("rgb",)
    """Keys of `CHANNELS` to report; with two keys `function` has a keyword argument `channel`."""

    def __post_init__(self) -> None:
        """Check the signature before a photo is restored."""
        check_arguments(Metric, {"name": self.name, "function": self.function})
        parameters = inspect.signature(self.function).parameters.values()
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        if not takes_any and all(p.name != "crop_border" for p in parameters):
            raise ConfigError(
                f"metric '{self.name}': its function must accept the keyword argument crop_border, "
                "the pixels to leave out on every side"
            )


def rgb(image: Tensor) -> Tensor:
    """All three channels, unchanged: (B, 3, H, W) -> (B, 3, H, W)."""
    return image


def y(image: Tensor) -> Tensor:
    """BT.601 luma in studio range, (B, 3, H, W) in [0, 1] -> (B, 1, H, W) in [16/255, 235/255].

    This is MATLAB's `rgb2ycbcr`, the convention of published "PSNR on Y" values. The peak of PSNR
    is still 1 (255 levels). So PSNR is 20 log10(255 / 219) = 1.32 dB higher than with full-range
    luma.

    >>> y(torch.ones(1, 3, 1, 1)).item() * 255  # doctest: +ELLIPSIS
    235.0...
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((image * weights).sum(dim=1, keepdim=True) + 16) / 255


CHANNELS = {"rgb": rgb, "y": y}


def cropped_pair(image: Tensor, target: Tensor, crop_border: int) -> tuple[Tensor, Tensor]:
    """Check that two images can be compared, and remove `crop_border` pixels on each side.

    Args:
        image: floating-point RGB, shape (B, 3, H, W), in [0, 1].
        target: the same shape.
        crop_border: pixels to remove on every side, >= 0 and less than half of each side.

    Returns:
        Views of both, shape (B, 3, H - 2 crop_border, W - 2 crop_border).

    Raises:
        ImageError: shapes differ or are not (B, 3, H, W), values are not floating point, or no
            pixel is left without the border.
    """
    for name, one in (("image", image), ("target", target)):
        if not isinstance(one, Tensor):
            raise ImageError(f"{name}: expected a tensor of shape (B, 3, H, W), got {short(one)}")
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
    if not is_whole(crop_border) or not 0 <= crop_border < (min(height, width) + 1) // 2:
        raise ImageError(
            f"crop_border: expected 0 <= border and 2 * border < {min(height, width)}, the shorter "
            f"side of the image, got {short(crop_border)}"
        )
    rows, columns = (slice(crop_border, side - crop_border) for side in (height, width))
    return image[..., rows, columns], target[..., rows, columns]


def rgb_pair(
    name: str, image: Tensor, target: Tensor, crop_border: int, channel: str
) -> tuple[Tensor, Tensor]:
    """`cropped_pair` for a metric whose network was trained on RGB.

    Args:
        name: name of the metric, for the message.
        image: see `cropped_pair`.
        target: see `cropped_pair`.
        crop_border: see `cropped_pair`.
        channel: must be "rgb".

    Raises:
        ImageError: see `cropped_pair`.
        ConfigError: `channel` is not "rgb".
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
    """Mean of a local error map of each image, computed in strips of rows to bound the memory.

    Args:
        pixel_map: `(image, target) -> map` for float32 strips (B, C, h, W); the map has `overlap`
            rows fewer than the strip.
        image: shape (B, 3, H, W).
        target: shape (B, 3, H, W).
        channel: "rgb" (mean over the three channels) or "y" (BT.601 luma, see `y`).
        overlap: rows that neighbouring strips share. With them every row of the map of the whole
            image is computed exactly once.

    Returns:
        Means, shape (B,), float64 on the CPU for any device of the images.

    Raises:
        ConfigError: `channel` is unknown.
    """
    if channel not in CHANNELS:
        raise ConfigError(f"channel: unknown value {channel!r}{suggest(channel, CHANNELS)}")
    total, count = torch.zeros(len(image), dtype=torch.float64), 0
    for part in _strips(image, overlap):
        pair = (CHANNELS[channel](whole[..., part, :].float()) for whole in (image, target))
        values = pixel_map(*pair)
        # The sum is float32 within a strip (torch sums pairwise) and float64 over the strips.
        total += values.sum(dim=(1, 2, 3)).cpu().double()
        count += values[0].numel()
    return total / count


def _strips(image: Tensor, overlap: int) -> Iterator[slice]:
    batch, _, height, width = image.shape
    rows = max(STRIP_PIXELS // (batch * width), 1)
    for top in range(0, height - overlap, rows):
        yield slice(top, top + rows + overlap)
