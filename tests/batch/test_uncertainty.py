"""Mean and spread of draws, and what the map says of them."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from refusion.batch.uncertainty import WHITE, write_map
from refusion.images.io import read_image
from refusion.restorers.statistics import mean_and_std


@pytest.mark.parametrize(("views", "count"), [(1, 2), (1, 7), (2, 5)])
def test_mean_and_spread_are_those_of_all_draws_at_once(views, count):
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(count, 3 * views, 5, 6, generator=generator) * 0.01 + 0.9
    mean, spread = mean_and_std(draw.clone() for draw in draws)
    torch.testing.assert_close(mean, draws.mean(dim=0))
    variance = draws.double().var(dim=0).unflatten(0, (views, 3)).mean(dim=1)
    assert spread.shape == (views, 5, 6)
    torch.testing.assert_close(spread.double(), variance.sqrt(), rtol=1e-3, atol=0)


def test_one_draw_is_held_at_a_time():
    alive = []

    def draws():
        for _ in range(4):
            # The first becomes the mean; of the others none is left.
            assert sum(draw() is not None for draw in alive) == min(1, len(alive))
            draw = torch.rand(3, 4, 4)
            alive.append(weakref.ref(draw))
            yield draw
            del draw

    mean_and_std(draws())
    assert len(alive) == 4


def test_equal_draws_have_no_spread():
    mean, spread = mean_and_std(torch.full((3, 4, 4), 0.3) for _ in range(5))
    assert torch.equal(mean, torch.full((3, 4, 4), 0.3))
    assert not spread.any()


def test_map_is_16_bit_gray_and_says_what_white_is(tmp_path):
    path = tmp_path / "map.png"
    spread = torch.tensor([[0.0, WHITE / 65535, WHITE / 2], [0.03, WHITE, 0.5]])
    write_map(path, spread)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        levels = np.asarray(image).astype(int)
        assert b"white = 0.1 of full scale" in image.info["xmp"]
    expected = (spread / WHITE).clamp(max=1) * 65535
    assert np.abs(levels - expected.numpy()).max() <= 0.51
    assert levels.tolist()[1] == [pytest.approx(0.3 * 65535, abs=1), 65535, 65535]
    assert read_image(path).mode == "gray"
