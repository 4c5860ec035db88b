"""Degradations around another one: black-and-white photos, and crops of larger pictures."""

from __future__ import annotations

import pytest
import torch
from degradation_cases import generator

from refusion.errors import ConfigError
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations import build_degradation
from refusion.synthesis.degradations.camera_noise import CameraNoise
from refusion.synthesis.degradations.cropped import Cropped
from refusion.synthesis.degradations.greyscale import Greyscale
from refusion.synthesis.degradations.jpeg import Jpeg
from refusion.synthesis.degradations.noise import GaussianNoise
from refusion.synthesis.scenes.frame import PhotoFrame

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
CLEAN = torch.rand(3, 64, 80, generator=generator(9)) * 0.6 + 0.2
FRAME = PhotoFrame.whole(CLEAN)


def test_a_share_of_the_samples_is_grey_with_noise_that_is_the_same_in_all_channels() -> None:
    source, noise = generator(0), GaussianNoise((20.0, 20.0), clip=True)
    items = [Greyscale(noise, 0.3)(CLEAN, source, FRAME) for _ in range(200)]
    grey = [item for item in items if "gt" in item]
    assert 40 <= len(grey) <= 80
    assert not any("noise_std" in item for item in items)
    for item in grey[:5]:
        for image in (item["lq"], item["gt"]):
            assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        torch.testing.assert_close(item["gt"][0], (CLEAN * LUMA).sum(0), atol=1e-6, rtol=0)
        torch.testing.assert_close(item["lq"], quantise(item["lq"]))
        # The luma of independent noise of 20 levels: 20 * sqrt(0.299^2 + 0.587^2 + 0.114^2).
        assert (item["lq"] - item["gt"]).std() * 255 == pytest.approx(20 * 0.6685, rel=0.05)
    colour = next(item for item in items if "gt" not in item)
    assert not torch.equal(colour["lq"][0], colour["lq"][1])


def test_a_grey_sample_has_the_ground_truth_of_its_degradation_in_grey() -> None:
    def darker(clean, generator, frame):
        return {"lq": clean, "gt": clean / 2}

    made = Greyscale(darker, 1.0)(CLEAN, generator(0), FRAME)
    torch.testing.assert_close(made["gt"][1], (CLEAN * LUMA).sum(0) / 2, atol=1e-6, rtol=0)


def test_the_blocks_of_a_cropped_jpeg_begin_anywhere() -> None:
    ramp = torch.linspace(0, 1, 96).expand(3, 96, 96).contiguous()
    starts = set()
    for seed in range(80):
        lq = Cropped(Jpeg((5, 5)))(ramp, generator(seed), PhotoFrame.whole(ramp))["lq"]
        assert lq.shape == ramp.shape
        steps = lq.diff(dim=-1).abs().mean((0, 1))
        starts.add(max(range(8), key=lambda place: steps[place::8].mean().item()))
    assert starts == set(range(8))


def test_both_pictures_are_cropped_at_the_same_place() -> None:
    def same(clean, generator, frame):
        return {"lq": clean + 1, "gt": clean, "noise_std": torch.tensor(0.1)}

    made = Cropped(same)(CLEAN, generator(3), FRAME)
    torch.testing.assert_close(made["gt"], CLEAN)  # what is kept is the crop itself
    torch.testing.assert_close(made["lq"], CLEAN + 1)
    assert made["noise_std"] == 0.1


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (16, 17)])
def test_small_pictures_are_degraded_too(size) -> None:
    clean, noise = CLEAN[:, : size[0], : size[1]], CameraNoise(mosaic_share=1.0)
    for degradation in (noise, Cropped(noise), Greyscale(Cropped(noise), 1.0)):
        lq = degradation(clean, generator(0), FRAME)["lq"]
        assert lq.shape == clean.shape and torch.isfinite(lq).all()
        assert not torch.equal(lq, clean)


def test_a_cropped_degradation_keeps_the_size() -> None:
    cropped = build_degradation(
        {"type": "Cropped", "degradation": {"type": "Downsample", "factor": 2}}
    )
    assert cropped.multiple == 2
    with pytest.raises(ConfigError, match="keeps the size"):
        cropped(CLEAN, generator(0), FRAME)


@pytest.mark.parametrize("kind", ["Greyscale", "Cropped"])
def test_nested_sections(kind) -> None:
    built = build_degradation({"type": kind, "degradation": {"type": "Jpeg", "quality": [9, 9]}})
    assert built.degradation == Jpeg((9, 9))
    with pytest.raises(ConfigError, match=r"degradation\.degradation\.type"):
        build_degradation({"type": kind, "degradation": {"type": "Jpg"}})
    with pytest.raises(ConfigError, match="expected a degradation, got 3"):
        {"Greyscale": Greyscale, "Cropped": Cropped}[kind](3)
    with pytest.raises(ConfigError, match="share"):
        Greyscale(Jpeg(), 1.5)
