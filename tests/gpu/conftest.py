"""Fixtures of the tests on a GPU.

Each test runs on `cuda` with the marker `gpu`, and on `cpu` in every other run, as its rehearsal.
"""

import os

import pytest
import torch

from refusion.devices.precision import choose_precision


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """'cpu' or 'cuda'."""
    if request.param == "cuda" and not torch.cuda.is_available():
        missing = pytest.fail if os.environ.get("REFUSION_NEEDS_GPU") else pytest.skip
        missing("this machine has no CUDA GPU")
    yield request.param
    if request.param == "cuda":
        torch.cuda.empty_cache()


@pytest.fixture
def narrow(device):
    """Name of the number format that 'auto' chooses on a new GPU; bf16 on the CPU, too."""
    if device == "cpu":
        return "bf16"
    is_narrow = choose_precision("auto", torch.device(device)) == torch.bfloat16
    return "bf16" if is_narrow else "fp32"
