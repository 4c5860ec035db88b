"""The measures of `benchmarks.calibration` on draws whose errors are known."""

import pytest
import torch

from benchmarks.calibration import measure, ranks, spearman


def test_ranks_and_their_correlation():
    values = torch.tensor([0.3, -1.0, 7.0, 2.0])
    assert ranks(values).tolist() == [1, 0, 3, 2]
    assert spearman(values, values.exp()) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(values, torch.ones(4)) == 0


def test_draws_around_the_truth_are_calibrated():
    """Truth and draws have one distribution, whose deviation grows over the image."""
    generator = torch.Generator().manual_seed(0)
    size, scale = (64, 256), torch.linspace(0.005, 0.1, 256)
    draws = 0.5 + scale * torch.randn(200, 3, *size, generator=generator)
    truth = 0.5 + scale * torch.randn(1, 3, *size, generator=generator)
    correlation, coverage = measure(draws, truth)
    assert correlation > 0.8
    assert coverage == pytest.approx(0.954, abs=0.01)


def test_draws_that_know_nothing():
    generator = torch.Generator().manual_seed(0)
    draws = 0.5 + 0.01 * torch.randn(8, 3, 64, 256, generator=generator)
    truth = torch.rand(1, 3, 64, 256, generator=generator)
    correlation, coverage = measure(draws, truth)
    assert abs(correlation) < 0.2
    assert coverage < 0.1
