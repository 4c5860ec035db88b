"""Latent replacement against the authors' numbers, and what its parts may depend on."""

import pytest
import torch

from refusion.nets import LatentUNet
from refusion.training.stages.latent_replacement import replace_latent, replacement_losses


@pytest.fixture
def case(recorded):
    settings, tensors = recorded("latent_unet")
    unet = LatentUNet(**settings["settings"])
    weights = {k[8:]: v for k, v in tensors.items() if k.startswith("weights.")}
    unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False), tensors


def test_recorded_losses(case):
    unet, tensors = case
    lq, gt = tensors["in.lq"], tensors["in.gt"]
    losses = replacement_losses(replace_latent(unet, lq, gt), lq, gt)
    short = {"reconstruction": "rec", "replacement": "rep", "regulariser": "reg"}
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(tensors[f"out.loss_{short[name]}"].item(), rel=1e-5)


def test_recorded_pictures(case):
    unet, tensors = case
    result = replace_latent(unet, tensors["in.lq"], tensors["in.gt"])
    torch.testing.assert_close(result.reconstruction, tensors["out.reconstruction"])
    torch.testing.assert_close(result.replacement, tensors["out.replacement"])


def test_reconstruction_does_not_see_the_ground_truth(case):
    unet, tensors = case
    lq, gt = tensors["in.lq"], tensors["in.gt"]
    a, b = replace_latent(unet, lq, gt), replace_latent(unet, lq, 1 - gt)
    torch.testing.assert_close(a.reconstruction, b.reconstruction)
    assert not torch.allclose(a.replacement, b.replacement)


def test_a_guide_is_told_of_both_images():
    torch.manual_seed(0)
    unet, (lq, gt) = LatentUNet(ch=4, ch_mult=[1, 2], in_ch=5), torch.rand(2, 2, 3, 8, 12)
    guide = torch.rand(2, 2, 8, 12)
    unet.requires_grad_(False)
    result = replace_latent(unet, lq, gt, guide)
    first, second = (unet.encode(torch.cat([image, guide], dim=1)) for image in (lq, gt))
    expected = unet.decode(second.z, first.skips, first.size)
    torch.testing.assert_close(result.replacement, expected, rtol=0, atol=1e-5)
    other = replace_latent(unet, lq, gt, 1 - guide)
    assert float((result.reconstruction - other.reconstruction).abs().max()) > 1e-3


def test_same_image_twice_is_no_replacement(case):
    unet, tensors = case
    result = replace_latent(unet, tensors["in.lq"], tensors["in.lq"])
    torch.testing.assert_close(result.replacement, result.reconstruction)
