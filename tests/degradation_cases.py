"""Pictures and checks shared by the tests of the degradations."""

from __future__ import annotations

import torch

from refusion.synthesis.scenes.fields import smooth_field


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours(height: int = 96, width: int = 128, contrast: float = 0.15) -> torch.Tensor:
    """Smooth colours (3, height, width)."""
    channels = [smooth_field((height, width), generator(c), modes=5) for c in range(3)]
    return (0.4 + contrast * torch.stack(channels)).clamp(0, 1)


def assert_8_bit(image: torch.Tensor, shape: tuple[int, ...]) -> None:
    """A photo as an 8-bit file gives it."""
    assert image.shape == shape
    assert image.dtype == torch.float32
    assert 0 <= image.min() <= image.max() <= 1
    assert ((image * 255).round() - image * 255).abs().max() < 1e-3
