"""A restored photo of any size is a function of (photo, weights, seed, options)."""

import logging

import pytest
import tiny_models
import torch

from refusion import load_restorer
from refusion.checkpoint import build_model, read_checkpoint
from refusion.errors import ConfigError, ImageError, RefusionError
from refusion.restorers import RESTORERS, Refusion
from refusion.sde import SAMPLERS

KINDS = ["latent", "pixel", "lens", "guided", "denoise", "stereo_sr"]


class WithConditions:
    """A restorer with default conditions for its model; a test can pass other conditions."""

    def __init__(self, path, kind):
        self.restorer, self.kind = load_restorer(path, precision="fp32"), kind
        self.info = self.restorer.info

    def restore(self, lq, **options):
        conditions = tiny_models.known_of(self.kind, lq)
        return self.restorer.restore(lq, **{"conditions": conditions} | options)

    def photo(self, *size, batch=1):
        return photo(*size, batch=batch, channels=3 * self.info.views)


@pytest.fixture(scope="module")
def restorers(tiny_checkpoint):
    return {kind: WithConditions(tiny_checkpoint(kind), kind) for kind in tiny_models.CONFIGS}


def photo(*size, batch=1, seed=0, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, *size, generator=generator) * 0.8 + 0.1


@pytest.mark.parametrize("kind", tiny_models.CONFIGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (7, 3), (16, 16), (33, 22)])
def test_size_dtype_and_range(restorers, kind, size):
    scale = restorers[kind].info.scale
    lq = restorers[kind].photo(*size, batch=2)
    result = restorers[kind].restore(lq)
    assert result.shape == (*lq.shape[:2], scale * size[0], scale * size[1])
    assert result.dtype == torch.float32
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert not result.requires_grad
    assert not result.is_inference()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_result_depends_on_the_seed(restorers, kind, sampler):
    lq, steps = restorers[kind].photo(8, 9), 10
    first, again, other = (
        restorers[kind].restore(lq, sampler=sampler, steps=steps, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    # Denoising starts from the photo itself, and some samplers add no noise in their steps.
    assert torch.equal(first, other) == (kind == "denoise" and not SAMPLERS[sampler].is_random)


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_random_state_is_neither_used_nor_changed(restorers, kind):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    lq = restorers[kind].photo(9, 9)
    first = restorers[kind].restore(lq)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, restorers[kind].restore(lq))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_the_same_results_as_single_photos(restorers, kind):
    lq, restore = restorers[kind].photo(20, 27, batch=2), restorers[kind].restore
    both = restore(lq, seed=[3, 4])
    alone = torch.cat([restore(lq[:1], seed=3), restore(lq[1:], seed=4)])
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-5)
    shared = restore(lq, seed=3)
    torch.testing.assert_close(shared[:1], alone[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [5, 16, 37, "auto"])
def test_tiles_do_not_change_a_latent_result(restorers, tile):
    lq, restorer = photo(33, 50), restorers["latent"]
    assert restorer.info.tiling == "exact"
    expected = restorer.restore(lq, tile=None)
    torch.testing.assert_close(restorer.restore(lq, tile=tile), expected, rtol=0, atol=1e-5)


def test_tiles_of_a_local_pixel_model_are_close_to_the_whole_photo(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint("pixel")))
    for block in model.network.modules():
        if hasattr(block, "sca"):  # without the channel attention the network is local
            torch.nn.init.zeros_(block.sca[1].weight)
    lq, restorer = photo(70, 101), Refusion(model)
    assert restorer.info.tiling == "blended"
    expected = restorer.restore(lq, tile=None)
    assert torch.equal(restorer.restore(lq, tile=101), expected)
    difference = (restorer.restore(lq, tile=48) - expected).abs()
    assert 0 < float(difference.mean()) < 0.1 * float((expected - lq).abs().mean())


@pytest.mark.parametrize("kind", ["lens", "denoise", "stereo_sr"])
def test_tiles_of_other_pixel_models_are_close_to_the_whole_photo(restorers, kind):
    restorer = restorers[kind]
    lq = restorer.photo(30, 41, batch=2)
    expected = restorer.restore(lq, tile=None)
    difference = (restorer.restore(lq, tile=24) - expected).abs()
    assert 0 < float(difference.mean()) < 0.2 * float(expected.std())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_to_float32(tiny_checkpoint, restorers, kind):
    narrow = load_restorer(tiny_checkpoint(kind), device="cpu", precision="bf16")
    assert narrow.info.precision == "bf16"
    lq = restorers[kind].photo(40, 40)
    conditions = tiny_models.known_of(kind, lq)
    difference = (narrow.restore(lq, conditions=conditions) - restorers[kind].restore(lq)).abs()
    assert 0 < float(difference.mean()) < 2 / 255


def test_steps_and_sampler_are_used_and_checked(restorers):
    restore, lq = restorers["latent"].restore, photo(8, 8)
    default = restore(lq)
    assert torch.equal(default, restore(lq, steps=3, sampler="posterior"))
    assert not torch.equal(default, restore(lq, steps=4))
    for wrong in (0, 101):
        with pytest.raises(ConfigError, match=r"1\.\.100"):
            restore(lq, steps=wrong)
    with pytest.raises(ConfigError, match="did you mean 'posterior'"):
        restore(lq, sampler="posteriour")
    for wrong in (0, True):
        with pytest.raises(ConfigError, match="tile: expected 'auto' or pixels from 1, got"):
            restore(lq, tile=wrong)
    with pytest.raises(ConfigError, match="seed: expected one or 1"):
        restore(lq, seed=[1, 2])


@pytest.mark.parametrize(
    "wrong", [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), photo(8, 8) + 1, photo(8, 8) * torch.nan]
)
def test_a_wrong_shape_or_range_raises_an_error(restorers, wrong):
    with pytest.raises(ImageError, match="lq"):
        restorers["latent"].restore(wrong)


def test_a_latent_unet_alone_returns_its_reconstruction(restorers, tiny_checkpoint, caplog):
    unet = build_model(read_checkpoint(tiny_checkpoint("unet"))).latent_unet
    lq = photo(19, 23)
    latent = unet.encode(lq)
    expected = unet.decode(latent.z, latent.skips, latent.size).clamp(0, 1)
    torch.testing.assert_close(restorers["unet"].restore(lq), expected, rtol=0, atol=1e-5)
    assert not restorers["unet"].info.stochastic
    with caplog.at_level(logging.WARNING):
        load_restorer(tiny_checkpoint("unet"))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tiny_checkpoint('unet')}: a latent U-Net alone")


def test_a_checkpoint_gives_the_same_restorer_as_its_file(restorers, tiny_checkpoint):
    restorer, lq = load_restorer(read_checkpoint(tiny_checkpoint()), precision="fp32"), photo(9, 8)
    assert restorer.info == restorers["latent"].info
    assert torch.equal(restorer.restore(lq), restorers["latent"].restore(lq))


def test_info_agrees_with_the_checkpoint(restorers):
    info = restorers["latent"].info
    assert (info.family, info.task, info.scale, info.factor) == ("Refusion", "dehaze", 1, 4)
    assert (info.sampler, info.steps, info.stochastic) == ("posterior", 3, True)
    assert (info.device, info.precision) == ("cpu", "fp32")
    assert RESTORERS[info.family] is Refusion
    infos = {kind: restorer.info for kind, restorer in restorers.items()}
    needs = {kind: info.needs for kind, info in infos.items() if info.needs}
    guided = {"guided": {"lens", "guide"}}
    assert needs == {"lens": {"lens"}} | guided
    optional = {kind: info.optional for kind, info in infos.items() if info.optional}
    assert optional == {"denoise": {"noise_std"}}
    kinds = {kind: (info.scale, info.views) for kind, info in infos.items()}
    single = dict.fromkeys(("latent", "pixel", "unet", "lens", "denoise", "guided"), (1, 1))
    assert kinds == single | {"stereo": (1, 2), "sr": (2, 1), "stereo_sr": (2, 2)}


def test_progress_counts_tiles_and_steps(restorers):
    reports = []

    def callback(*report):
        reports.append(report)

    restorers["latent"].restore(photo(40, 40), tile=24, callback=callback)
    tiles = [*range(1, 5)]
    assert [done for stage, done, total in reports if stage == "encode" and total == 4] == tiles
    assert [done for stage, done, total in reports if stage == "sample" and total == 3] == [1, 2, 3]
    assert [done for stage, done, total in reports if stage == "decode" and total == 4] == tiles


def test_the_networks_of_the_model_are_copied(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint()))
    restorer = Refusion(model, precision="bf16")
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    before = restorer.restore(photo(8, 8))
    with torch.no_grad():
        model.latent_unet.final_conv.bias.add_(0.2)
    assert torch.equal(restorer.restore(photo(8, 8)), before)


def test_overflow_in_bfloat16_is_computed_again_in_float32(
    tiny_checkpoint, restorers, caplog, monkeypatch
):
    model = build_model(read_checkpoint(tiny_checkpoint()))
    restorer = Refusion(model, precision="bf16", memory=2**33)
    with torch.no_grad():
        restorer._model.latent_unet.final_conv.bias.fill_(torch.inf)
    limits = []
    monkeypatch.setattr(
        "refusion.restorers.refusion.model.auto_tile",
        lambda *given: limits.append(given[4]) or 64,
    )
    with caplog.at_level(logging.WARNING):
        result = restorer.restore(photo(8, 8))
    assert "again in fp32" in caplog.text
    assert limits == [2**33, 2**33]  # the memory limit holds for the second attempt, too
    assert torch.equal(result, restorers["latent"].restore(photo(8, 8)))


def test_a_result_that_is_not_finite_in_float32_is_an_error(tiny_checkpoint):
    model = build_model(read_checkpoint(tiny_checkpoint()))
    with torch.no_grad():
        model.latent_unet.final_conv.bias.fill_(torch.nan)
    for precision in ("fp32", "bf16"):
        with pytest.raises(RefusionError, match="not finite"):
            Refusion(model, precision=precision).restore(photo(8, 8))


@pytest.mark.parametrize("kind", tiny_models.CONFIGS)
@pytest.mark.parametrize(("dtype", "full"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_integers_give_the_same_photo_as_floats(restorers, kind, dtype, full):
    lq = (restorers[kind].photo(33, 22) * full).to(dtype)
    before = lq.clone()
    expected = restorers[kind].restore(lq.float() / full)
    for strength in (1.0, 0.0):
        result = restorers[kind].restore(lq, strength=strength)
        assert result.dtype == dtype
        if strength == 1:
            assert float((result.double() / full - expected).abs().max()) <= 0.51 / full + 1e-5
    assert torch.equal(lq.int(), before.int())


def test_the_memory_limit_determines_the_tiles(tiny_checkpoint):
    lq = photo(60, 80)
    expected = load_restorer(tiny_checkpoint(), precision="fp32").restore(lq)
    wide = load_restorer(tiny_checkpoint(), precision="fp32", memory=2**40)
    assert torch.equal(wide.restore(lq), expected)
    with pytest.raises(ImageError, match="80x60"):
        load_restorer(tiny_checkpoint(), memory=2**20).restore(lq)
    tight = load_restorer(tiny_checkpoint(), memory=2**20)
    torch.testing.assert_close(tight.restore(lq, tile=64), expected, rtol=0, atol=6e-2)
