"""A method as one graph: the results of the restorer, and tiles that fit together."""

from dataclasses import replace

import pytest
import torch
from onnx_cases import MODELS, NAFNET, checkpoint_of

from refusion.checkpoint import build_model
from refusion.errors import ConfigError
from refusion.export.local_graph import RIM, _LocalMean, _with_local_means, photo_graph
from refusion.nets.nafnet_blocks import ChannelPool
from refusion.restorers import Conditions, Refusion, Regression

BLIND = {"network": NAFNET | {"middle_blk_num": 1}, "task": "blind"}


def photo(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def local(model):
    return replace(model, network=_with_local_means(model.network))


@pytest.mark.parametrize(("steps", "sampler"), [(None, None), (1, "mean"), (4, "ode-data-2")])
def test_denoising_is_that_of_the_restorer(tmp_path, steps, sampler):
    model = build_model(checkpoint_of(tmp_path, MODELS["denoise"], sampler="mean"))
    given, lq = Conditions(noise_std=25 / 255), photo(33, 40)
    how = {"steps": steps, "sampler": sampler}
    expected = Refusion(local(model)).restore(lq, conditions=given, **how).clamp(0, 1)
    with torch.no_grad():
        result = photo_graph(model, 25 / 255, **how).module(lq)
        other = photo_graph(model, 5 / 255, **how).module(lq)
    assert (expected - lq).abs().max() > 0.01
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    assert (other - result).abs().max() > 0.01


def test_a_regression_is_that_of_the_restorer(tmp_path):
    model = build_model(checkpoint_of(tmp_path, BLIND))
    lq = photo(33, 40)
    expected = Regression(local(model)).restore(lq).clamp(0, 1)
    with torch.no_grad():
        result = photo_graph(model).module(lq)
    assert (expected - lq).abs().max() > 0.01
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("window", "largest"), [(32, 1e-3), (None, 0.2)])
def test_tiles_fit_together(tmp_path, window, largest):
    """Without its rim a tile is like the photo; averages of the whole tile would change it."""
    config = {"network": NAFNET | {"pool_window": window}, "task": "blind"}
    model = build_model(checkpoint_of(tmp_path, config, scale=0.5))
    wide = photo(4 * RIM, 6 * RIM)
    wide[..., 3 * RIM :] *= 0.3  # so that averages over the tile and over the photo differ
    tile = wide[..., : 4 * RIM]

    def difference(restore):
        with torch.no_grad():
            whole = restore(wide)[..., : 4 * RIM]
            return (restore(tile) - whole)[..., RIM:-RIM, RIM:-RIM].abs().max()

    found = difference(photo_graph(model).module)
    model.network.set_pool_window(None)
    assert found < largest * difference(model.network)


def test_the_window_of_a_model_stays(tmp_path):
    windows = {}
    for name, settings in {"own": {"pool_window": 40}, "none": {}}.items():
        (tmp_path / name).mkdir()
        config = {"network": NAFNET | settings, "task": "blind"}
        network = build_model(checkpoint_of(tmp_path / name, config)).network
        pools = [m for m in _with_local_means(network).modules() if isinstance(m, _LocalMean)]
        windows[name] = max(2 * pool.radius for pool in pools)
        assert all(isinstance(block.sca[0], ChannelPool) for block in network.middle_blks)
    assert windows == {"own": 40, "none": 2 * RIM}


@pytest.mark.parametrize("size", [(5, 7), (3, 40), (40, 3), (1, 1)])
def test_local_means_are_those_of_the_pixels_inside(size):
    x = photo(*size)
    result = _LocalMean(9)(x)
    for row in range(size[0]):
        for column in range(size[1]):
            rows = slice(max(0, row - 4), row + 5)
            inside = x[..., rows, max(0, column - 4) : column + 5]
            torch.testing.assert_close(result[..., row, column], inside.mean((-2, -1)))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("haze", {}, "the 'test' model needs the whole photo; darktable gives tiles"),
        ("lens", {}, "the 'bokeh' model needs more than a photo"),
        ("unet", {}, "needs more than a photo, or changes its size"),
        ("sr", {}, "the 'sr' model needs more than a photo, or changes its size"),
        ("prior", {}, "the 'prior' model needs more than a photo"),
        ("pixel", {}, "needs random numbers"),
        ("denoise", {}, "noise level: missing"),
        ("denoise", {"noise_std": 71 / 255}, "expected above 0 and at most 70, got 71"),
        ("denoise", {"noise_std": 0.0}, "expected above 0 and at most 70, got 0"),
        ("denoise", {"noise_std": 0.1, "sampler": "posterior"}, "needs random numbers"),
        ("pixel", {"noise_std": 0.1}, "noise level: the 'test' model takes none"),
        ("nafnet", {"noise_std": 0.1}, "noise level, steps, sampler: the 'blind' model is a"),
        ("nafnet", {"steps": 2}, "the 'blind' model is a regression; leave them out"),
    ],
)
def test_models_and_options_that_do_not_suit(tmp_path, name, given, message):
    model = build_model(checkpoint_of(tmp_path, MODELS[name]))
    with pytest.raises(ConfigError, match=message):
        photo_graph(model, **given)
