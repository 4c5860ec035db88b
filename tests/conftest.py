"""Fixtures of the whole suite."""

import json
from pathlib import Path

import pytest
import tiny_models
import tiny_stable_diffusion
import torch
from safetensors.torch import load_file

# The networks of the tests are so small that a second thread only waits for the first.
torch.set_num_threads(1)

FOLDER = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def recorded():
    """Load a case of the authors' public code (tests/reference/README.md): settings, tensors."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))

    def load(case):
        return manifest[case], load_file(FOLDER / f"{case}.safetensors")

    return load


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Weights file of a tiny random model: `tiny_checkpoint("latent" | "pixel" | "unet")`."""
    folder = tmp_path_factory.mktemp("weights")

    def path_of(kind="latent"):
        path = folder / f"{kind}.safetensors"
        if not path.exists():
            tiny_models.save(kind, path)
        return path

    return path_of


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """Folder of a tiny random Stable Diffusion; skips where its libraries are missing."""
    for library in tiny_stable_diffusion.LIBRARIES:
        pytest.importorskip(library)
    return tiny_stable_diffusion.make_stable_diffusion(tmp_path_factory.mktemp("sd"))
