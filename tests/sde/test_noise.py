from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from refusion.sde import RecordedNoise, SeededNoise

LIKE = torch.zeros(2, 3, 16, 16)


def test_a_draw_depends_on_seed_and_time_only():
    first, second = SeededNoise(5), SeededNoise(5)
    late = first.step(7, LIKE)
    second.initial(LIKE)
    for t in (100, 50, 8):
        second.step(t, LIKE)
    assert torch.equal(second.step(7, LIKE), late)


def test_an_image_gets_its_noise_whatever_its_batch():
    batch = SeededNoise([11, 22, 11]).step(3, torch.zeros(3, 3, 5, 7))
    alone = SeededNoise(22).step(3, torch.zeros(1, 3, 5, 7))
    assert torch.equal(batch[1:2], alone)
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(SeededNoise(22).step(3, torch.zeros(4, 3, 5, 7))[3:], alone)


def test_fields_of_different_keys_are_unrelated():
    like = torch.zeros(1, 1, 64, 64)
    fields = [SeededNoise(seed).step(t, like) for seed in (0, 1, -1, 10) for t in (0, 1, 10)]
    fields += [SeededNoise(seed).initial(like) for seed in (0, 1)]
    correlation = torch.corrcoef(torch.stack(fields).flatten(1)) - torch.eye(len(fields))
    assert correlation.abs().max() < 5 / 64


def test_fields_are_standard_normal():
    field = SeededNoise(0).step(1, torch.zeros(1, 1, 400, 400))
    assert abs(field.mean().item()) < 4 / 400
    assert abs(field.var().item() - 1) < 4 * 2**0.5 / 400
    assert (field**4).mean().item() == pytest.approx(3, abs=0.15)


def test_dtype_follows_the_state_and_not_the_values():
    single, double = (
        SeededNoise(1).step(1, LIKE.to(dtype)) for dtype in (torch.float, torch.double)
    )
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


def test_global_randomness_is_left_alone():
    state = torch.get_rng_state()
    SeededNoise(1).initial(LIKE)
    assert torch.equal(torch.get_rng_state(), state)


def test_number_of_seeds_must_match():
    with pytest.raises(ValueError, match="expected 2 seeds"):
        SeededNoise([1, 2, 3]).initial(LIKE)


def test_recorded_noise_replays():
    start, steps = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.eye(4)
    source = RecordedNoise(start, steps)
    assert torch.equal(source.initial(LIKE), start)
    assert torch.equal(source.step(2, LIKE.double()), steps[2].double())


def test_the_noise_of_a_seed_stays_the_same_in_later_versions():
    """A photo that is restored again with its seed gets the same result."""
    like, source = torch.zeros(1, 1, 1, 4), SeededNoise(3)
    known = {
        "initial": (source.initial(like), [-2.4936, -1.1381, 1.7999, 1.4709]),
        "step 7": (source.step(7, like), [-2.1950, -0.7892, 1.1047, 0.3320]),
        "step 7.25": (source.step(7.25, like), [-0.8094, -0.0821, 0.7170, 0.4313]),
    }
    for name, (field, expected) in known.items():
        assert field.flatten().tolist() == pytest.approx(expected, abs=1e-4), name


def test_fractional_times_have_fields_of_their_own():
    fields = [SeededNoise(1).step(t, LIKE) for t in (7, 7.0, 7.25, 7.75, 8)]
    assert torch.equal(fields[0], fields[1])
    for a, b in pairwise(fields[1:]):
        assert not torch.equal(a, b)
