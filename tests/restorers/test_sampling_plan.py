"""The reverse process that the arguments of `restore` select, and errors in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refusion.checkpoint import build_model, read_checkpoint
from refusion.config.parser import Component
from refusion.config.sections import SamplingConfig
from refusion.errors import ConfigError
from refusion.restorers import Conditions, Refusion


@pytest.fixture
def model_of(tiny_checkpoint):
    def build(kind="pixel", sde=None, **sampling):
        model = build_model(read_checkpoint(tiny_checkpoint(kind)))
        config = replace(model.config, sampling=replace(model.config.sampling, **sampling))
        return replace(model, config=config if sde is None else replace(config, sde=sde))

    return build


def photo(size=12):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


class Recorder(torch.nn.Module):
    """A network that returns a residual of 0.1 and records the states and times."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, xt, mu, t):
        self.seen.append((xt - mu, t))
        return torch.full_like(xt, 0.1)


def recorded(monkeypatch, model):
    restorer, recorder = Refusion(model), Recorder()
    networks = replace(restorer._model, network=recorder)
    monkeypatch.setattr(restorer, "_model", networks)
    return restorer, recorder


def test_fractional_times_are_passed_to_the_network(monkeypatch, model_of):
    restorer, recorder = recorded(monkeypatch, model_of())
    result = restorer.restore(photo(), sampler="sde-data-2@log_snr", steps=5, tile=None)
    times = [t for _, t in recorder.seen]
    assert len(times) == 5 and times[0] == 100
    assert all(t != int(t) for t in times[1:]) and times == sorted(times, reverse=True)
    torch.testing.assert_close(result, photo() + 0.1)
    # The embedding of the real networks is continuous: neighbouring times, neighbouring results.
    network = model_of().network
    near, far = (network(photo(), photo(), t) for t in (37.0, 37.5))
    whole = network(photo(), photo(), 37)
    torch.testing.assert_close(near, whole)
    assert 0 < float((far - whole).abs().max()) < 0.1 * float(whole.abs().max())


@pytest.mark.parametrize("tile", ["auto", 5, None])
def test_a_network_needs_no_attribute_factor(monkeypatch, model_of, tile):
    """Without it, tiles have any position and size; without a convolution, 'auto' works, too."""
    restorer, recorder = recorded(monkeypatch, model_of())
    assert not hasattr(recorder, "factor")
    result = restorer.restore(photo(13), sampler="posterior", steps=2, tile=tile)
    torch.testing.assert_close(result, photo(13) + 0.1)
    assert {offset.shape[-1] for offset, _ in recorder.seen} == {5 if tile == 5 else 13}


BRIDGES = [
    Component("GOUB", {"max_sigma": 30, "T": 100}),
    Component("UniDB", {"max_sigma": 30, "T": 100, "gamma": 1e7}),
]


@pytest.mark.parametrize("sde", BRIDGES, ids=lambda sde: sde.type)
def test_a_bridge_starts_at_the_photo(monkeypatch, model_of, sde):
    restorer, recorder = recorded(monkeypatch, model_of(sde=sde))
    restorer.restore(photo(), steps=4, sampler="mean", tile=None)
    first = float(recorder.seen[0][0].abs().max())
    assert first == 0 if sde.type == "GOUB" else first < 5 * 1e7**-0.5
    assert [t for _, t in recorder.seen] == [100, 75, 50, 25]


@pytest.mark.parametrize("sampler", ["mean", "ode-data-2", "posterior", "euler"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_seed_changes_the_result_of_a_bridge_with_a_random_sampler(model_of, sampler, steps):
    restorer = Refusion(model_of(sde=BRIDGES[0], sampler=sampler, steps=steps))
    one, other = (restorer.restore(photo(), seed=seed) for seed in (1, 2))
    random = {"euler": True, "posterior": steps > 1}.get(sampler, False)
    assert restorer.info.stochastic == random == (not torch.equal(one, other))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_distilled_model_is_called_once_at_its_time(monkeypatch, model_of, share):
    model = model_of(steps=1, distilled_at=55, start_noise=share)
    restorer, recorder = recorded(monkeypatch, model)
    restorer.restore(photo(64), tile=None)
    ((offset, t),) = recorder.seen
    assert t == 55
    expected = share * float(restorer._model.sde.std(55))
    assert float(offset.std()) == pytest.approx(expected, rel=0.05, abs=1e-7)
    assert restorer.info.stochastic == (share > 0)


def test_a_distilled_model_takes_one_step_only(model_of):
    restorer = Refusion(model_of(steps=1, distilled_at=55))
    with pytest.raises(ConfigError, match="distilled to 1 step at time 55"):
        restorer.restore(photo(), steps=4)
    with pytest.raises(ConfigError, match="takes 1 step, got 2"):
        SamplingConfig("posterior", 2, distilled_at=55)


def test_a_latent_unet_alone_has_no_process(tiny_checkpoint):
    restorer = Refusion(build_model(read_checkpoint(tiny_checkpoint("unet"))))
    for wrong in ({"steps": 2}, {"sampler": "posterior"}):
        with pytest.raises(ConfigError, match="U-Net alone, without a diffusion process"):
            restorer.restore(photo(), **wrong)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sampler": "sde-data-9"}, "unknown sampler 'sde-data-9'"),
        ({"sampler": "mean@karas"}, "unknown grid 'karas'; did you mean 'karras'"),
        ({"sampler": "eta2-data-1"}, r"eta: expected 0 \(ODE\) to 1 \(SDE\), got 2.0"),
        ({"steps": 101}, r"steps: expected 1\.\.100"),
        ({"sampler": "posterior@log_snr", "steps": 0}, "steps: expected 1 or more"),
    ],
)
def test_invalid_samplers_and_steps_raise_an_error(model_of, options, reason):
    with pytest.raises(ConfigError, match=reason):
        Refusion(model_of()).restore(photo(), **options)


def test_a_sampler_that_does_not_suit_the_process_is_an_error(model_of):
    sde = Component("UniDB", {"max_sigma": 30.0, "T": 100, "gamma": 1e7})
    restorer = Refusion(model_of(sde=sde))
    with pytest.raises(ConfigError, match=r"sampler: the steps .* do not converge for UniDB; use"):
        restorer.restore(photo(), sampler="ode")
    assert restorer.restore(photo(), sampler="sde-noise-2", steps=20).isfinite().all()


def test_a_fractional_grid_allows_more_steps_than_times(model_of):
    restorer = Refusion(model_of())
    assert restorer.restore(photo(), sampler="ode-data-2@log_snr", steps=130).isfinite().all()


@pytest.mark.parametrize("sampler", ["posterior@log_snr", "ode-data-3", "sde-data-2@karras"])
def test_denoising_works_with_every_kind_of_sampler(model_of, sampler):
    restorer = Refusion(model_of("denoise"))
    lq, conditions = photo(), Conditions(noise_std=25 / 255)
    assert restorer.restore(lq, conditions=conditions, sampler=sampler, steps=6).isfinite().all()
