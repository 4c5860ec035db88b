"""A frame around a photo does not change how the part inside is restored."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from refusion import load_restorer
from refusion.images.frame import WHOLE
from refusion.restorers.framed import common_area, restored_inside

EXAMPLE = Path(__file__).parents[2] / "examples" / "hazy-coast.jpg"
PLACE = (slice(30, 126), slice(14, 142))


def photo(dtype=np.uint8, seed=0):
    """A pale photo, 96 x 128."""
    rough = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(rough, (96, 128), mode="bicubic")[0].clamp(0, 1).permute(1, 2, 0)
    levels = 255 if dtype == np.uint8 else 65535
    return (fine.numpy() * levels * 0.4 + levels * 0.45).astype(dtype)


def framed(inside, value=0):
    out = np.full((150, 160, 3), value, inside.dtype)
    out[PLACE] = inside
    return out


@pytest.mark.parametrize("task", ["dehaze", "dehaze_landscape", "deshadow"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_part_inside_is_restored_as_if_alone(task, dtype):
    restorer, alone = load_restorer(task, device="cpu", precision="fp32"), photo(dtype)
    given = framed(alone, np.iinfo(dtype).max)
    result = restorer(given)
    np.testing.assert_array_equal(result[PLACE], restorer(alone))
    result[PLACE] = given[PLACE]
    np.testing.assert_array_equal(result, given)  # the frame itself


def test_a_black_frame_does_not_hide_the_haze():
    hazy = np.asarray(Image.open(EXAMPLE).resize((480, 320)))
    given = np.array(ImageOps.expand(Image.fromarray(hazy), 12, (0, 0, 0)))
    found = load_restorer("dehaze", device="cpu", precision="fp32").decompose(given)
    inside = found.transmission[12:-12, 12:-12]
    assert inside.mean() < 0.9 and (found.transmission[:12] == 1).all()
    # The haze of a copy serves the photo, and the frame is the same part of it.
    small = load_restorer("dehaze", device="cpu", precision="fp32").decompose(given[::2, ::2])
    larger = torch.from_numpy(given).permute(2, 0, 1)[None].float() / 255
    cleared = small.haze.clear(larger)
    assert torch.equal(cleared[..., :12, :], larger[..., :12, :])
    assert (cleared - larger).abs().mean() > 0.01
    assert small.haze.to(torch.device("cpu")).area == small.haze.area


def test_photos_of_a_batch_share_the_frame_that_all_have():
    source = torch.Generator().manual_seed(0)
    thin, thick = torch.zeros(2, 3, 100, 100).split(1)
    thin[..., 5:90, 10:] = torch.rand(85, 90, generator=source) * 0.5 + 0.3
    thick[..., 20:80, 30:90] = torch.rand(60, 60, generator=source) * 0.5 + 0.3
    area = common_area(torch.cat([thin, thick]))
    assert area.rows == (0.05, 0.9) and area.columns == (0.1, 1.0)
    assert common_area(torch.cat([thin, thin.roll((50, 50), (-2, -1))])) == WHOLE


@pytest.mark.parametrize("task", ["dehaze", "deshadow"])
def test_a_photo_does_not_change_with_the_frames_of_others(task):
    restorer = load_restorer(task, device="cpu", precision="fp32")
    plain = photo(seed=1).repeat(2, 0)[:150].repeat(2, 1)[:, :160]
    photos = np.stack([framed(photo()), plain, framed(photo(), 255)])
    batch = torch.from_numpy(photos).permute(0, 3, 1, 2)
    together = restorer.restore(batch, seed=[3, 4, 5])
    for index, seed in enumerate([3, 4, 5]):
        alone = restorer.restore(batch[index : index + 1], seed=seed)
        assert torch.equal(together[index : index + 1], alone)
    assert not torch.equal(together, batch) or task == "deshadow"


@pytest.mark.parametrize("task", ["dehaze", "deshadow"])
def test_a_part_of_one_colour_stays_as_it_is(task):
    plain = (128 + np.random.default_rng(0).integers(0, 6, (96, 128, 3))).astype(np.uint8)
    given = framed(plain)
    restored = load_restorer(task, device="cpu", precision="fp32")(given)
    np.testing.assert_array_equal(restored, given)


def test_what_is_inpainted_may_be_at_the_border():
    photos = torch.zeros(1, 3, 100, 100)
    photos[..., 20:80, 20:80] = torch.rand(60, 60, generator=torch.Generator()) * 0.5 + 0.3
    assert (restored_inside(torch.ones_like, photos, "inpaint") == 1).all()
    assert restored_inside(torch.ones_like, photos, "deshadow").eq(1).sum() == 3 * 60 * 60
