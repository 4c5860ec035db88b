"""SecondOrder with samples that stay clean and samples with weaker settings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from degradation_cases import assert_8_bit, colours, generator

from refusion.errors import ConfigError
from refusion.metrics.psnr import psnr
from refusion.synthesis.camera import quantise
from refusion.synthesis.degradations.blind import SecondOrder
from refusion.synthesis.scenes.frame import PhotoFrame

FRAME = PhotoFrame(torch.zeros(3, 8, 8))
CLEAN = quantise(colours(64, 64))


def decibels(draw, seeds):
    """PSNR of one degraded image per seed."""
    made = (draw(CLEAN, generator(seed), FRAME)["lq"] for seed in seeds)
    return np.array([float(psnr(lq[None], CLEAN[None])) for lq in made])


def test_a_clean_sample_is_the_photo():
    lq = SecondOrder(clean_share=1.0)(CLEAN, generator(), FRAME)["lq"]
    assert torch.equal(lq, CLEAN)
    assert_8_bit(lq, (3, 64, 64))


def test_without_shares_the_samples_are_those_of_the_published_pipeline():
    """No random number is drawn for shares of 0, and the settings of a full sample are kept."""
    plain, full = SecondOrder(), SecondOrder(clean_share=0.0, mild_share=0.0)
    for seed in range(3):
        expected = plain._degrade(CLEAN, generator(seed), FRAME)["lq"]
        assert torch.equal(full(CLEAN, generator(seed), FRAME)["lq"], expected)


def test_shares_are_those_of_the_samples(monkeypatch):
    strengths, plain = [], SecondOrder.weakened

    def recorded(self, strength):
        strengths.append(strength)
        return plain(self, strength)

    monkeypatch.setattr(SecondOrder, "weakened", recorded)
    values = decibels(SecondOrder(clean_share=0.3, mild_share=0.5), range(300))
    assert np.isinf(values).mean() == pytest.approx(0.3, abs=0.08)
    assert len(strengths) / 300 == pytest.approx(0.5, abs=0.08)
    assert np.mean(strengths) == pytest.approx(0.5, abs=0.08)
    assert min(strengths) < 0.05 and max(strengths) > 0.95
    assert np.isfinite(decibels(SecondOrder(mild_share=1.0), range(20))).all()


def test_weaker_settings_change_less_and_none_almost_nothing():
    means = [decibels(SecondOrder().weakened(s), range(40)).mean() for s in (0, 0.25, 0.5, 1)]
    assert means[0] > 40
    assert all(before > after + 1 for before, after in itertools.pairwise(means))


def test_full_strength_keeps_every_setting_but_the_shares():
    draw = SecondOrder(clean_share=0.2, mild_share=0.5, reduction=(2.0, 4.0), quality=(40, 90))
    assert draw.weakened(1.0) == SecondOrder(reduction=(2.0, 4.0), quality=(40, 90))


def test_half_the_strength():
    half = SecondOrder(reduction=(1.0, 3.0)).weakened(0.5)
    assert half.reduction == (1.0, 2.0) and half.resize == (0.575, 1.25)
    assert half.noise == (0.5, 15.0) and half.quality == (65, 98)
    assert half.sigma == pytest.approx((0.105, 1.505))
    assert (half.sinc_share, half.ringing_share) == (0.05, 0.4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clean_share": 0.6, "mild_share": 0.6}, "clean_share and mild_share: expected at most 1"),
        ({"clean_share": 1.5}, r"SecondOrder\.clean_share"),
        ({"mild_share": -0.1}, r"SecondOrder\.mild_share"),
    ],
)
def test_shares_out_of_range(settings, words):
    with pytest.raises(ConfigError, match=words):
        SecondOrder(**settings)
