"""What is said to be enough memory is enough, and what is too little is refused."""

import pytest
import torch

from refusion import memory as process_memory
from refusion.devices import allocator
from refusion.errors import ImageError
from refusion.nets import ConditionalNAFNet, LatentUNet
from refusion.tiling import exact, memory

CPU = torch.device("cpu")


def photo(side):
    """A photo that takes no memory."""
    return torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(1, 3, side, side)


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.setattr(memory, "_process_bytes", lambda _: 400 * 2**20)
    with torch.device("meta"):
        return LatentUNet(), ConditionalNAFNet()


def test_a_lower_limit_gives_smaller_tiles_up_to_what_is_of_use(networks):
    for network in networks:
        sides = [
            memory.auto_tile(network, torch.bfloat16, photo(1000), CPU, limit * 2**30)
            for limit in (1, 2, 4, 100)
        ]
        assert sides == sorted(sides)
        assert sides[0] < sides[-1]
        assert sides[-1] == memory.auto_tile(network, torch.bfloat16, photo(1000), CPU)


def test_photos_of_no_more_pixels_than_a_tile_are_not_cut(networks):
    for network in networks:
        of = torch.zeros(1, 3, 1, 1).expand
        side = memory.auto_tile(network, torch.float32, of(1, 3, 5000, 5000), CPU)
        long = of(1, 3, side // 4, 2 * side)
        assert memory.auto_tile(network, torch.float32, long, CPU) == 2 * side
        assert memory.auto_tile(network, torch.float32, of(1, 3, side, side + 64), CPU) == side


def test_what_is_held_of_a_large_photo_counts(networks):
    def side(of):
        return memory.auto_tile(networks[0], torch.bfloat16, photo(of), CPU, 2 * 2**30)

    assert side(11000) < side(1000)
    message = r"20000x20000 needs about \d+\.\d GB, more than the limit of 2\.0 GB"
    with pytest.raises(ImageError, match=message):
        side(20000)


def test_a_limit_does_not_cut_the_copy_that_a_network_sees(networks):
    """And the photo itself, of which only the result is made, costs no more than its bytes."""

    def tile(limit, copy, of=6000):
        return memory.auto_tile(networks[1], torch.bfloat16, photo(of), CPU, limit, copy)

    small, large = photo(384).float(), photo(3000).float()
    assert tile(None, small) >= 384
    assert tile(3 * 2**29, small) >= 384
    assert tile(4 * 2**30, large) == tile(None, large) < 3000
    message = r"6000x6000 needs about 1\.2 GB, more than the limit of 1\.0 GB"
    with pytest.raises(ImageError, match=message):
        tile(2**30, small)
    assert tile(2 * 2**30, small, 12000) >= 384
    with pytest.raises(ImageError, match=r"more than the limit of 2\.0 GB"):
        tile(2 * 2**30, None, 12000)


def test_a_network_without_a_convolution_counts_as_64_channels_wide():
    """Of its first level; the attribute `channels_at_once` replaces the estimate."""
    network = torch.nn.Linear(3, 3)
    convolution = torch.nn.Conv2d(3, 64, 1)
    expected = memory.activation_bytes(convolution, torch.float32)
    assert memory.activation_bytes(network, torch.float32) == expected
    assert memory.auto_tile(network, torch.float32, photo(1000), CPU) >= 64
    network.channels_at_once = 5
    assert memory.activation_bytes(network, torch.float32) == 5 * 4


def test_kept_memory_is_handed_back():
    """Of effect only with the GNU C library; harmless everywhere, also when nested or broken."""
    device, megabyte = CPU, 2**20

    def held():
        return memory._process_bytes(device)

    if allocator._library() is None or held() == process_memory._PROCESS:
        pytest.skip("this system's C library does not keep memory")
    with allocator.reuse_freed_memory():
        torch.ones(128 * megabyte // 4)
        kept = held()
        torch.ones(96 * megabyte // 4)  # an equal piece would not fit beside its own alignment
        assert abs(held() - kept) < 32 * megabyte
    with pytest.raises(ValueError, match="inside"), allocator.reuse_freed_memory():
        raise ValueError("inside")
    assert held() < kept - 96 * megabyte


@pytest.mark.parametrize(("first", "tried"), [(200, [200, 100, 64]), (100, [100, 64]), (16, [16])])
def test_tiles_are_halved_down_to_64_pixels(first, tried):
    sides = []

    def run(side):
        sides.append(side)
        raise MemoryError

    with pytest.raises(MemoryError):
        memory.with_smaller_tiles(run, first)
    assert sides == tried


def test_a_narrow_tile_of_a_photo_gives_a_coarse_tile_of_8_pixels():
    assert [exact._coarse_tile(side) for side in (None, 1, 3, 32, 100)] == [None, 8, 8, 8, 25]
