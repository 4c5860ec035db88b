from __future__ import annotations

import pytest
import torch

from refusion.errors import ImageError
from refusion.images.check import check_image


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_accepts_the_closed_interval(dtype):
    check_image("lq", torch.tensor([0.0, 0.5, 1.0], dtype=dtype).view(1, 3, 1, 1))


def test_a_stereo_pair_has_six_channels():
    check_image("lq", torch.zeros(2, 6, 4, 4), 6)
    for channels, wrong in ((3, 6), (6, 3)):
        with pytest.raises(ImageError, match=rf"expected shape \(B, {channels}, H, W\)"):
            check_image("lq", torch.zeros(1, wrong, 4, 4), channels)


@pytest.mark.parametrize(
    ("tensor", "got"),
    [
        ([1.0], "list"),
        (torch.zeros(3, 4, 4), "(3, 4, 4)"),
        (torch.zeros(1, 4, 4, 3), "(1, 4, 4, 3)"),
        (torch.zeros(0, 3, 4, 4), "(0, 3, 4, 4)"),
        (torch.zeros(1, 3, 0, 4), "(1, 3, 0, 4)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "torch.uint8"),
        (torch.full((1, 3, 1, 1), 255.0), "255"),
        (torch.full((1, 3, 1, 1), -0.25), "-0.25"),
        (torch.full((1, 3, 1, 1), float("nan")), "nan"),
        (torch.full((1, 3, 1, 1), float("inf")), "inf"),
    ],
)
def test_refusal_names_argument_and_value(tensor, got):
    with pytest.raises(ImageError) as caught:
        check_image("lq", tensor)
    message = str(caught.value)
    assert message.startswith("lq: expected") and got in message and "\n" not in message


def test_one_bad_value_among_many_is_found():
    image = torch.rand(2, 3, 9, 7)
    image[1, 2, 8, 6] = float("nan")
    with pytest.raises(ImageError, match="finite"):
        check_image("x", image)
