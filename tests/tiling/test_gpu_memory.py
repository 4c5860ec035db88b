"""Tile sizes and copies of photos on a GPU, whose memory is simulated."""

import pytest
import torch

from refusion.memory import is_out_of_memory
from refusion.nets import LatentUNet
from refusion.tiling import memory

GPU, CPU, OTHER = torch.device("cuda"), torch.device("cpu"), torch.device("meta")
GIB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """Set the simulated state of the card: free, reserved and allocated bytes."""

    def set_state(free, reserved=0, allocated=0):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)

    return set_state


@pytest.fixture
def unet():
    with torch.device("meta"):
        return LatentUNet()


def photo(side):
    """A photo that takes no memory."""
    return torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(1, 3, side, side)


def side(unet, **limits):
    return memory.auto_tile(unet, torch.bfloat16, photo(8000), GPU, **limits)


def test_tiles_grow_with_the_free_memory_up_to_a_useful_size(gpu, unet):
    sides = []
    for free in (1, 4, 8, 16, 141):
        gpu(free * GIB)
        sides.append(side(unet))
    assert sides[0] < sides[1] < sides[2] < sides[3] == sides[4]
    assert sides[3] ** 2 * memory.activation_bytes(unet, torch.bfloat16) <= 8 * GIB


def test_the_second_photo_gets_tiles_of_the_same_size(gpu, unet):
    """PyTorch keeps the memory of the first one, which the driver then counts as used."""
    gpu(8 * GIB, reserved=1 * GIB, allocated=1 * GIB)
    first = side(unet)
    gpu(2 * GIB, reserved=7 * GIB, allocated=1 * GIB)
    assert side(unet) == first


def test_a_limit_counts_on_a_gpu(gpu, unet):
    gpu(80 * GIB)
    assert side(unet, limit=2 * GIB) < side(unet)


@pytest.mark.parametrize(
    ("free", "limit", "is_moved"),
    [(80, None, True), (1, None, False), (80, 1, False), (80, 8, True)],
)
def test_photos_are_copied_where_they_take_a_small_part_of_the_memory(gpu, free, limit, is_moved):
    gpu(free * GIB)
    large = photo(8000)  # 192 MB, and the same again for the result
    bytes_ = None if limit is None else limit * GIB
    placed = memory.on_device(large, OTHER, bytes_)
    assert placed.device == (OTHER if is_moved else CPU)
    assert placed is large or is_moved


def test_photos_for_the_cpu_are_not_copied(gpu):
    small = photo(10)
    assert memory.on_device(small, CPU) is small


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_errors_of_a_full_card_give_smaller_tiles(text):
    assert is_out_of_memory(torch.OutOfMemoryError(text))
    tried = []

    def run(tile):
        tried.append(tile)
        if tile > 100:
            raise RuntimeError(text)
        return tile

    assert memory.with_smaller_tiles(run, 400) == 100
    assert tried == [400, 200, 100]
