"""The measure sees a change outside the shadow and none inside it."""

import pytest
import torch

from benchmarks.untouched import measure, untouched


class Changer:
    """A restorer that adds to a part of the photo."""

    def __init__(self, part, amount):
        self.part, self.amount = part, amount

    def restore(self, lq):
        restored = lq.clone()
        restored[..., self.part] += self.amount
        return restored


@pytest.fixture
def pair():
    gt = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    lq = gt.clone()
    lq[..., :64] *= 0.5
    return lq, gt


def test_only_what_is_not_degraded_counts(pair):
    where = untouched(*pair)
    assert not where[..., :64].any() and where[..., 72:].all()
    left, right = slice(0, 64), slice(64, 128)
    share, change = measure(Changer(left, 0.1), *pair)
    assert 0.4 < share < 0.5 and change == 0
    assert measure(Changer(right, 0.1), *pair)[1] == pytest.approx(25.5)


def test_a_photo_in_shadow_all_over_has_no_such_part(pair):
    assert measure(Changer(slice(None), 0.1), pair[1] * 0.5, pair[1]) == (0.0, 0.0)
