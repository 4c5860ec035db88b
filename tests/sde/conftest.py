"""Cases recorded from the authors' public code (tests/reference/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from refusion.sde import IRSDE, SDES

FOLDER = Path(__file__).parents[1] / "reference"


@pytest.fixture
def recorded():
    """Load a case: `(settings, tensors)`."""
    manifest = json.loads((FOLDER / "manifest.json").read_text())

    def load(case: str):
        return manifest[case], load_file(FOLDER / f"{case}.safetensors")

    return load


@pytest.fixture
def sde_of():
    """Build the SDE of recorded settings, where max_sigma below 1 is a fraction of full scale."""

    def build(settings: dict) -> IRSDE:
        lam = settings["max_sigma"]
        lam = lam / 255 if lam >= 1 else lam
        kind = SDES[settings.get("kind", "IRSDE")]
        return kind(lam, settings["T"], settings["schedule"], settings["eps"])

    return build
