"""The restorer Regression: interface, tiles, number formats and errors."""

from dataclasses import replace

import pytest
import tiny_models
import torch

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.restorers import Regression, load_restorer


@pytest.fixture
def model(tiny_checkpoint):
    return build_model(read_checkpoint(tiny_checkpoint("blind")))


def photo(*size, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, *size, generator=generator) * 0.8 + 0.1


def test_the_weights_file_determines_the_restorer(tiny_checkpoint):
    info = load_restorer(tiny_checkpoint("blind"), device="cpu", precision="fp32").info
    assert (info.family, info.task, info.scale, info.views) == ("Regression", "blind", 1, 1)
    assert (info.stochastic, info.sampler, info.steps, info.tiling) == (False, None, 0, "blended")
    assert not info.needs


@pytest.mark.parametrize("size", [(1, 2), (5, 33), (40, 24)])  # one pixel has no structure
def test_the_result_is_the_output_of_the_network(model, size):
    lq = photo(*size, batch=2)
    restored = Regression(model).restore(lq, tile=None)
    torch.testing.assert_close(restored, model.network(lq).clamp(0, 1), rtol=0, atol=1e-5)
    alone = Regression(model).restore(lq[1:], seed=7)
    torch.testing.assert_close(restored[1:], alone, rtol=0, atol=1e-5)
    assert float((restored - lq).abs().mean()) > 1e-3


def test_integers_are_restored_over_their_full_range(model):
    lq = photo(20, 30)
    for kind, full in ((torch.uint8, 255), (torch.uint16, 65535)):
        stored = (lq * full).round().to(kind)
        restored = Regression(model).restore(stored)
        expected = Regression(model).restore(stored.float() / full)
        assert restored.dtype == kind
        assert float((restored.float() / full - expected).abs().max()) <= 0.51 / full


def test_tiles_overlap_and_are_close_to_the_whole_photo(model):
    """Tiles of 32 pixels start at multiples of 16, the window, so neighbours overlap by half."""
    lq, reports = photo(72, 90), []
    whole = Regression(model).restore(lq, tile=None)
    restorer = Regression(model)
    tiled = restorer.restore(lq, tile=1, callback=lambda *report: reports.append(report))
    assert {stage for stage, _, _ in reports} == {"decode"}
    assert reports[-1][1:] == (len(reports), len(reports)) and len(reports) == 4 * 5
    difference = (tiled - whole).abs()
    assert float(difference.mean()) < 0.25 * float((whole - lq).abs().mean())
    assert torch.equal(tiled, restorer.restore(lq, tile=32))


class Brighter(torch.nn.Module):
    """A regression without the attribute `factor`."""

    def __init__(self):
        super().__init__()
        self.change = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, photo):
        return photo + self.change


@pytest.mark.parametrize("tile", ["auto", 5, None])
def test_a_network_needs_no_attribute_factor(model, tile):
    restorer = Regression(replace(model, network=Brighter()))
    lq = photo(13, 17)
    torch.testing.assert_close(restorer.restore(lq, tile=tile), lq + 0.1)


def test_strength_interpolates_photo_and_restoration(model):
    lq, restorer = photo(24, 24), Regression(model)
    full = restorer.restore(lq)
    assert torch.equal(restorer.restore(lq, strength=0), lq)
    half = restorer.restore(lq, strength=0.5)
    torch.testing.assert_close(half, (lq + model.network(lq)).div(2).clamp(0, 1), atol=1e-5, rtol=0)
    assert not torch.equal(full, half)


def test_a_model_with_upscale_enlarges_the_photo(tmp_path):
    from refusion.checkpoint import save_checkpoint

    tensors = tiny_models.build(tiny_models.SWINIR).state_dict()
    config = tiny_models.BLIND | {"upscale": {"factor": 2}}
    named = {f"network.{name}": tensor for name, tensor in tensors.items()}
    save_checkpoint(tmp_path / "x2.safetensors", config, named, {})
    restorer = load_restorer(tmp_path / "x2.safetensors", device="cpu", precision="fp32")
    assert restorer.restore(photo(9, 12)).shape == (1, 3, 18, 24)
    assert restorer.info.scale == 2


def test_a_result_that_is_not_finite_is_an_error(model, caplog):
    restorer = Regression(model, precision="bf16")
    exact = Regression(model).restore(photo(16, 16))
    rounded = restorer.restore(photo(16, 16))
    assert 0 < float((rounded - exact).abs().max()) < 0.05
    with torch.no_grad():
        model.network.norm.weight.fill_(3e38)  # the restorers above have copies
    with pytest.raises(RefusionError, match="not finite, in float32 too"):
        Regression(model, precision="bf16").restore(photo(16, 16))
    assert "again in fp32" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 4}, "steps, sampler: the 'blind' model is a regression"),
        ({"sampler": "posterior"}, "is a regression"),
        ({"tile": 0}, "tile: expected"),
        ({"strength": 2}, "strength: expected"),
    ],
)
def test_invalid_options_raise_an_error(model, options, message):
    with pytest.raises(ConfigError, match=message):
        Regression(model).restore(photo(8, 8), **options)


def test_a_wrong_number_of_channels_raises_an_error(model):
    with pytest.raises(ImageError, match="lq"):
        Regression(model).restore(torch.rand(1, 1, 8, 8))
