"""Fixtures of the tests of the mathematics."""

from __future__ import annotations

import pytest

from refusion.sde import IRSDE, SDES


@pytest.fixture
def sde_of():
    """Build the SDE of recorded settings, where max_sigma below 1 is a fraction of full scale."""

    def build(settings: dict) -> IRSDE:
        lam = settings["max_sigma"]
        lam = lam / 255 if lam >= 1 else lam
        kind = SDES[settings.get("kind", "IRSDE")]
        return kind(lam, settings["T"], settings["schedule"], settings["eps"])

    return build
