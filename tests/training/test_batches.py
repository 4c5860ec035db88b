"""How batches are cut: every sample once, in equal parts, however many processes there are."""

from itertools import islice

import pytest

from refusion.devices.processes import World
from refusion.errors import ConfigError
from refusion.training.batches import BatchShares


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("parts", [1, 3])
def test_processes_and_parts_cover_each_batch_once(size, parts):
    worlds = [BatchShares(24, parts, World(rank, size), 5, 8) for rank in range(size)]
    for step in range(5, 8):
        cut = [shares.indices(step, part) for shares in worlds for part in range(parts)]
        assert len({len(indices) for indices in cut}) == 1
        assert [index for indices in cut for index in indices] == [
            *range(step * 24, step * 24 + 24)
        ]


def test_iteration_goes_through_steps_then_parts():
    shares = BatchShares(4, 2, World(), 3, 5)
    assert [list(part) for part in shares] == [[12, 13], [14, 15], [16, 17], [18, 19]]
    assert len(shares) == 4


@pytest.mark.parametrize(("batch", "parts", "size"), [(4, 3, 1), (4, 1, 3), (6, 2, 2)])
def test_unequal_parts_are_refused(batch, parts, size):
    with pytest.raises(
        ConfigError, match=rf"data\.batch_size: {batch} samples .* {size} processes"
    ):
        BatchShares(batch, parts, World(0, size), 0, 1)


def test_a_run_by_time_has_an_endless_stream():
    endless, ends = (BatchShares(4, 2, World(), 3, stop) for stop in (None, 5))
    assert list(islice(endless, 4)) == list(ends)
    assert len(list(islice(endless, 1000))) == 1000
    with pytest.raises(TypeError):
        len(endless)
