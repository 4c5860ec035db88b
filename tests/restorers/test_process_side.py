"""Large photos whose process runs on a reduced copy: `sampling.process_side`."""

from dataclasses import replace

import pytest
import torch

from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import RefusionError
from refusion.restorers import Refusion, load_restorer


def test_process_side_changes_only_larger_photos(tiny_checkpoint):
    """A photo up to that side is processed at its size, a larger photo on a reduced copy."""
    model = build_model(read_checkpoint(tiny_checkpoint("latent")))
    lq = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(2))
    lq = torch.nn.functional.interpolate(lq, size=(60, 80), mode="bicubic").clamp(0, 1)
    results = {}
    for side in (None, 80, 40):
        sampling = replace(model.config.sampling, process_side=side)
        config = replace(model.config, sampling=sampling)
        results[side] = Refusion(replace(model, config=config)).restore(lq)
    assert torch.equal(results[None], results[80])
    assert not torch.equal(results[None], results[40])
    tiled = Refusion(replace(model, config=config)).restore(lq, tile=16)
    torch.testing.assert_close(tiled, results[40], atol=1e-4, rtol=0)


def test_a_reduced_copy_keeps_edges_and_detail(tiny_checkpoint, monkeypatch):
    """Each side of an edge gets its own change; detail that the copy does not have remains."""
    model = build_model(read_checkpoint(tiny_checkpoint("pixel")))
    config = replace(model.config, sampling=replace(model.config.sampling, process_side=60))

    def sample(model, request, mu, tile=None):
        assert mu.shape[-2:] == (40, 60)
        return mu + 0.2 * (mu < 0.5)

    monkeypatch.setattr("refusion.restorers.refusion.pixels.sample", sample)
    lq = torch.full((1, 3, 80, 120), 0.8)
    lq[..., 60:] = 0.2
    lq += 0.02 * torch.randn(lq.shape, generator=torch.Generator().manual_seed(0))
    change = Refusion(replace(model, config=config)).restore(lq) - lq
    assert float(change[..., :60].abs().mean()) < 0.02
    assert float((change[..., 60:] - 0.2).abs().mean()) < 0.02


def test_the_result_on_a_reduced_copy_does_not_depend_on_the_tile(tiny_checkpoint):
    """The network gets the whole copy, because a tile of it would have too little context."""
    model = build_model(read_checkpoint(tiny_checkpoint("pixel")))
    config = replace(model.config, sampling=replace(model.config.sampling, process_side=60))
    restorer = Refusion(replace(model, config=config))
    lq = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(2))
    lq = torch.nn.functional.interpolate(lq, size=(90, 120), mode="bicubic").clamp(0, 1)
    whole = restorer.restore(lq, tile=None)
    for tile in ("auto", 16, 40):
        assert torch.equal(restorer.restore(lq, tile=tile), whole)
    levels = (lq * 255).round().to(torch.uint8)
    result = restorer.restore(levels)
    assert result.dtype == torch.uint8
    assert torch.equal(result, (restorer.restore(levels.float() / 255) * 255).round().byte())


@pytest.mark.parametrize("size", [(1, 1), (5, 60), (33, 47), (60, 60), (61, 60), (90, 45)])
@pytest.mark.parametrize("kind", ["pixel", "latent"])
def test_with_a_process_side_tiles_change_nothing_at_any_size(tiny_checkpoint, kind, size):
    """Photos that are smaller than the process side, equal to it, and larger."""
    model = build_model(read_checkpoint(tiny_checkpoint(kind)))
    config = replace(model.config, sampling=replace(model.config.sampling, process_side=60))
    restorer = Refusion(replace(model, config=config))
    assert restorer.info.tiling == "exact"
    lq = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    whole = restorer.restore(lq, tile=None)
    for tile in ("auto", 1, 16, 48, 60, 64):
        torch.testing.assert_close(restorer.restore(lq, tile=tile), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("task", ["dehaze", "deshadow"])
@pytest.mark.parametrize("size", [(130, 90), (72, 200)])
def test_tiles_do_not_change_the_result_of_the_shipped_models(task, size):
    restorer = load_restorer(task, device="cpu", precision="fp32")
    lq = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(2))
    lq = torch.nn.functional.interpolate(lq, size=size, mode="bicubic").clamp(0, 1)
    whole = restorer.restore(lq, tile=None)
    for tile in (64, 128):
        result = restorer.restore(lq, tile=tile)
        torch.testing.assert_close(result, whole, atol=1e-3, rtol=0)


def test_integers_on_a_reduced_copy_that_is_not_finite_are_an_error(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint("pixel")))
    config = replace(model.config, sampling=replace(model.config.sampling, process_side=6))
    with torch.no_grad():
        next(model.network.parameters()).fill_(torch.nan)
    with pytest.raises(RefusionError, match="not finite"):
        Refusion(replace(model, config=config)).restore(torch.ones(1, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("size", [(160, 120), (150, 240)])
def test_the_change_on_the_reduced_copy_has_the_right_position(tiny_checkpoint, monkeypatch, size):
    """The change grows from the top of the photo to its bottom, at every size of the map."""
    model = build_model(read_checkpoint(tiny_checkpoint("latent")))
    config = replace(
        model.config, sampling=replace(model.config.sampling, process_side=max(size) // 2)
    )
    factor, decoded = model.latent_unet.factor, {}

    def ramp(height, rows):
        return ((torch.arange(rows) + 0.5) * factor / height).view(1, 1, rows, 1)

    def sample(model, request, mu, tile=None):
        assert mu.shape[-1] <= size[1] / factor / 2 + 4  # on the reduced copy
        return mu + ramp(size[0] / 2, mu.shape[-2])

    def decode(unet, lq, latent, *_):
        decoded["z"] = latent.z
        return lq

    monkeypatch.setattr("refusion.restorers.refusion.latent.sample", sample)
    monkeypatch.setattr("refusion.restorers.refusion.latent.decode_tiled", decode)
    lq = torch.full((1, 3, *size), 0.5)
    Refusion(replace(model, config=config)).restore(lq)
    z = model.latent_unet.encode(lq).z
    change = decoded["z"] - z
    middle = slice(z.shape[-2] // 2 - 4, z.shape[-2] // 2 + 4)
    expected = ramp(size[0], z.shape[-2]).expand_as(z)
    torch.testing.assert_close(
        change[..., middle, 8:-8], expected[..., middle, 8:-8], atol=0.02, rtol=0
    )


@pytest.mark.parametrize("size", [(75, 121), (66, 64), (130, 61)])
def test_the_copy_and_the_photo_are_padded_by_different_amounts(tiny_checkpoint, monkeypatch, size):
    """The photo's padded latent corresponds to a fractional number of rows of the copy's latent."""
    model = build_model(read_checkpoint(tiny_checkpoint("latent")))
    config = replace(model.config, sampling=replace(model.config.sampling, process_side=60))
    extents = []

    def upsample(change, guide, target, extent):
        extents.append((extent, target.shape[-2:]))
        return torch.zeros_like(target)

    monkeypatch.setattr("refusion.restorers.refusion.latent.guided_upsample", upsample)
    Refusion(replace(model, config=config)).restore(torch.rand(1, 3, *size))
    ((extent, padded),) = extents
    copy = [round(side * 60 / max(size)) for side in size]
    expected = [rows * small / side for rows, small, side in zip(padded, copy, size, strict=True)]
    assert extent == pytest.approx(expected, rel=1e-12)
