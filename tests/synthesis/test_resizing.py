"""Resizing by matrix products is that of PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from refusion.synthesis import resizing

SIZES = [(64, 64), (1, 1), (7, 90), (128, 30), (33, 48)]


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("before", SIZES)
@pytest.mark.parametrize("after", [*SIZES, (200, 131)])
def test_resize_is_that_of_pytorch(mode, before, after, monkeypatch) -> None:
    image = torch.rand(3, *before, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(image[None], after, mode=mode)[0]
    monkeypatch.setattr(resizing.F, "interpolate", lambda *_, **__: pytest.fail("not a product"))
    found = resizing.resize(image, after, mode)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_larger_images_are_resized_by_pytorch() -> None:
    image = torch.rand(3, resizing.LIMIT + 1, 20)
    expected = F.interpolate(image[None], (40, 50), mode="bicubic")[0]
    assert torch.equal(resizing.resize(image, (40, 50), "bicubic"), expected)
