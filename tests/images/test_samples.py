"""Integers and floats of a photo say the same."""

import pytest
import torch

from refusion.images import samples
from refusion.images.photo import Photo

KINDS = [(torch.uint8, 255), (torch.uint16, 65535)]


@pytest.mark.parametrize(("kind", "full"), KINDS)
def test_every_level_comes_back(kind, full):
    levels = torch.arange(full + 1).to(kind).view(1, 1, -1)
    values = samples.to_float(levels)
    assert values.dtype == torch.float32
    expected = torch.arange(full + 1, dtype=torch.float64) / full
    assert torch.equal(values.flatten(), expected.float())
    again = torch.empty_like(levels)
    samples.store(values, again)
    assert torch.equal(again.int(), levels.int())


@pytest.mark.parametrize(("kind", "full"), KINDS)
def test_storing_clamps_and_rounds_to_nearest(kind, full):
    values = torch.tensor([-0.5, 0.49 / full, 0.51 / full, 1 - 0.49 / full, 1.5])
    target = torch.empty(5, dtype=kind)
    before = values.clone()
    samples.store(values, target)
    assert target.tolist() == [0, 0, 1, full, full]
    assert torch.equal(values, before)


def test_floats_are_stored_as_they_are_and_float32_is_not_copied():
    values = torch.tensor([-0.5, 2.0])
    target = torch.empty(2)
    samples.store(values.bfloat16(), target)
    assert torch.equal(target, values)
    assert samples.to_float(values) is values
    assert [samples.is_integer(x) for x in (values, values.to(torch.uint16))] == [False, True]


def test_image_of_a_photo_is_its_samples_as_floats():
    pixels = torch.randint(0, 256, (5, 7, 1), dtype=torch.uint8)
    photo = Photo(pixels.permute(2, 0, 1).expand(3, -1, -1), mode="gray")
    assert photo.image.is_contiguous()
    assert torch.equal(photo.image[2], pixels[..., 0] / 255)
