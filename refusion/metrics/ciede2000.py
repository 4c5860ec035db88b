"""Colour difference CIEDE2000 (Sharma, Wu & Dalal, Color Research & Application 30(1), 2005)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refusion.metrics.metric import cropped_pair, mean_of_map

# IEC 61966-2-1: matrix from linear sRGB to XYZ, and the white point D65 of the 2-degree observer.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def ciede2000(
    image: Tensor, target: Tensor, *, crop_border: int = 0, channel: str = "rgb"
) -> Tensor:
    """Mean CIEDE2000 colour difference of each image, with k_L = k_C = k_H = 1, for sRGB and D65.

    A difference of about 1 is the smallest that people see between two adjacent uniform patches.
    The value is the mean of scikit-image's `deltaE_ciede2000(rgb2lab(target), rgb2lab(image))`.

    Args:
        image: float sRGB, shape (B, 3, H, W), in [0, 1].
        target: the same shape.
        crop_border: pixels removed on every side, >= 0.
        channel: "rgb"; or "y" for gray images of the luma, which differ only in lightness.

    Returns:
        Differences >= 0, shape (B,), float64 on the CPU; 0 for equal images.

    Raises:
        ImageError: the images cannot be compared (see `cropped_pair`).
        ConfigError: unknown `channel`.

    White and black differ only in lightness, by 100:

    >>> black = torch.zeros(1, 3, 4, 4)
    >>> round(float(ciede2000(black + 1, black)), 3)
    100.0
    """
    image, target = cropped_pair(image, target, crop_border)

    def pixel_map(a: Tensor, b: Tensor) -> Tensor:
        a, b = (lab(x.double().expand(-1, 3, -1, -1)) for x in (a, b))
        return lab_difference(b, a)[:, None]

    return mean_of_map(pixel_map, image, target, channel=channel)


def lab(image: Tensor) -> Tensor:
    """Convert sRGB to CIE 1976 L*a*b*.

    Args:
        image: sRGB, (B, 3, H, W) in [0, 1].

    Returns:
        L*, a* and b*, (B, 3, H, W), L* in [0, 100].

    >>> lab(torch.ones(1, 3, 1, 1, dtype=torch.float64))[0, 0].round(decimals=3).item()
    100.0
    """
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", image.new_tensor(_XYZ), linear)
    ratio = xyz / image.new_tensor(_WHITE).view(1, 3, 1, 1)
    f = torch.where(ratio > 0.008856, ratio.clamp(min=1e-9) ** (1 / 3), 7.787 * ratio + 16 / 116)
    x, y, z = f.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_difference(first: Tensor, second: Tensor) -> Tensor:
    """CIEDE2000 of L*a*b* values, equations 2 to 22 of the paper.

    Args:
        first: (B, 3, ...), float64.
        second: the same shape.

    Returns:
        Differences, shape (B, ...).
    """
    (L1, a1, b1), (L2, a2, b2) = first.unbind(dim=1), second.unbind(dim=1)  # noqa: N806
    mean_chroma7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * torch.sqrt(mean_chroma7 / (mean_chroma7 + 25**7))
    C1, C2 = torch.hypot(stretch * a1, b1), torch.hypot(stretch * a2, b2)  # noqa: N806
    h1, h2 = _hue(b1, stretch * a1), _hue(b2, stretch * a2)
    is_gray = C1 * C2 == 0
    dh = h2 - h1
    dh = dh - 2 * math.pi * torch.round(dh / (2 * math.pi))  # to [-pi, pi]
    dh = torch.where(is_gray, 0.0, dh)
    dL, dC, dH = L2 - L1, C2 - C1, 2 * torch.sqrt(C1 * C2) * torch.sin(dh / 2)  # noqa: N806
    L, C = (L1 + L2) / 2, (C1 + C2) / 2  # noqa: N806
    h = torch.where(is_gray, h1 + h2, _mean_hue(h1, h2))
    S_L = 1 + 0.015 * (L - 50) ** 2 / torch.sqrt(20 + (L - 50) ** 2)  # noqa: N806
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * _hue_weight(h)  # noqa: N806
    rotation = torch.exp(-(((torch.rad2deg(h) - 275) / 25) ** 2)) * math.radians(60)
    R_T = -2 * torch.sqrt(C**7 / (C**7 + 25**7)) * torch.sin(rotation)  # noqa: N806
    l, c, h = dL / S_L, dC / S_C, dH / S_H  # noqa: E741
    return torch.sqrt((l**2 + c**2 + h**2 + R_T * c * h).clamp(min=0))


def _hue(b: Tensor, a: Tensor) -> Tensor:
    """Hue angle in [0, 2 pi)."""
    return torch.atan2(b, a) % (2 * math.pi)


def _mean_hue(h1: Tensor, h2: Tensor) -> Tensor:
    """Mean of two hue angles on the shorter arc between them."""
    total = h1 + h2
    other = torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi)
    return torch.where((h1 - h2).abs() > math.pi, other, total) / 2


def _hue_weight(h: Tensor) -> Tensor:
    """T of the paper, the weight of the hue difference; h in radians."""
    degrees = torch.pi / 180
    return (
        1
        - 0.17 * torch.cos(h - 30 * degrees)
        + 0.24 * torch.cos(2 * h)
        + 0.32 * torch.cos(3 * h + 6 * degrees)
        - 0.20 * torch.cos(4 * h - 63 * degrees)
    )
