"""Fixtures of the whole suite."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

FOLDER = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def recorded():
    """Load a case of the authors' public code (tests/reference/README.md): settings, tensors."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))

    def load(case):
        return manifest[case], load_file(FOLDER / f"{case}.safetensors")

    return load
