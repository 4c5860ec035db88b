"""The shipped weights do what they are for on simple photos of every day."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from refusion.images.io import read_image
from refusion.images.resize import shrink
from refusion.metrics.psnr import psnr
from refusion.randomness import keyed_generator
from refusion.restorers import load_restorer
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.scenes.frame import PhotoFrame

PHOTOS = Path(__file__).parents[1] / "photos"
SENSOR = {"type": "CameraNoise", "white_share": 0.0, "jpeg_share": 0.0, "mosaic_share": 1.0}
FILM = SENSOR | {"mosaic_share": 0.0, "film_share": 1.0}


def wall(height=300, width=400):
    """A rough, plain wall, (1, 3, H, W)."""
    source = torch.Generator().manual_seed(3)
    fine, coarse = (torch.randn(1, 1, *size, generator=source) for size in ((150, 200), (4, 5)))
    fine, coarse = (
        F.interpolate(x, (height, width), mode="bicubic", align_corners=False)
        for x in (fine, coarse)
    )
    return torch.tensor([0.78, 0.74, 0.67]).view(1, 3, 1, 1) + 0.015 * fine + 0.015 * coarse


def shaded(photo, cover, light):
    """The photo with a shadow: `light` is the share of the light that is left."""
    return (photo**2.2 * (1 - cover * (1 - light))) ** (1 / 2.2)


def covers(height=300, width=400):
    """Shadows with soft edges: of a ball, and of a roof over the left part of the wall."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ball = torch.sigmoid((70 - torch.hypot(rows - 160.0, columns - 220.0)) / 4)
    return {"ball": ball, "roof": torch.sigmoid((150.0 - columns) / 3)}


@pytest.mark.parametrize(
    ("shape", "light", "gain"),
    [
        ("ball", 0.3, 10),
        ("ball", 0.4, 8),
        ("ball", 0.5, 7),
        ("roof", 0.3, 10),
        ("roof", 0.4, 10),
        ("roof", 0.5, 2),
    ],
)
def test_a_shadow_on_a_wall_is_removed(shape, light, gain):
    restorer, clean = load_restorer("deshadow", device="cpu"), wall()
    photo = shaded(clean, covers()[shape], light)
    assert float(psnr(restorer.restore(photo), clean) - psnr(photo, clean)) > gain


def test_a_wall_without_a_shadow_stays():
    restorer, clean = load_restorer("deshadow", device="cpu"), wall()
    assert float(psnr(restorer.restore(clean), clean)) > 45


def examples(side=320):
    for path in sorted(PHOTOS.glob("*.jpg")):
        yield shrink(read_image(path).image[None], side)[0].clamp(0, 1)


@pytest.mark.parametrize(
    ("noise", "gain"),
    [
        ({"type": "Greyscale", "share": 1.0, "degradation": SENSOR | {"sigma": [25, 25]}}, 2.5),
        ({"type": "Greyscale", "share": 1.0, "degradation": FILM | {"sigma": [12, 12]}}, 1.0),
        (SENSOR | {"sigma": [12, 12]}, 4.5),
        (FILM | {"sigma": [12, 12]}, 4.3),
    ],
)
def test_noise_with_grain_is_removed(noise, gain):
    restorer, gains = load_restorer("denoise", device="cpu"), []
    for number, clean in enumerate(examples()):
        made = build_degradation(noise)(clean, keyed_generator(number), PhotoFrame.whole(clean))
        lq, truth = made["lq"][None], made.get("gt", clean)[None]
        gains.append(float(psnr(restorer.restore(lq), truth) - psnr(lq, truth)))
    assert min(gains) > 0.1 and sum(gains) / len(gains) > gain
