"""Fixtures of the tests of the mathematics."""

from __future__ import annotations

import pytest

from refusion.sde import IRSDE, SDES


@pytest.fixture
def sde_of():
    """Build the SDE of recorded settings, where max_sigma below 1 is a fraction of full scale."""

    def build(settings: dict) -> IRSDE:
        levels = settings["max_sigma"]
        levels = levels if levels >= 1 else 255 * levels
        kind = SDES[settings.get("kind", "IRSDE")]
        return kind(levels, settings["T"], settings["schedule"], settings["eps"])

    return build
