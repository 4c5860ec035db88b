"""Which stage of training reads which section of a config."""

from __future__ import annotations

from collections.abc import Mapping

from refusion.errors import ConfigError

SECTIONS = {"one_step": "distillation", "diffbir": "diffbir"}
"""Stages with a section of their own."""


def check_sections(stage: str, parts: Mapping[str, object]) -> None:
    """Check that a stage has its own section and none of another's.

    Args:
        stage: of the run.
        parts: sections of the run by key.

    Raises:
        ConfigError: names the section.
    """
    for owner, section in SECTIONS.items():
        if stage == owner and parts[section] is None:
            raise ConfigError(f"{section}: required by stage {stage}")
        if stage != owner and parts[section] is not None:
            raise ConfigError(f"{section}: stage {stage} has no use for it; remove it")


def check_on_stable_diffusion(stage: str, others: Mapping[str, object]) -> None:
    """Refuse what describes a process where a Stable Diffusion brings its own.

    Args:
        stage: of the run.
        others: sections that only other stages read, by key.

    Raises:
        ConfigError: one of them is there.
    """
    unused = [key for key, value in others.items() if value is not None]
    if unused:
        raise ConfigError(f"{unused[0]}: stage {stage} trains a Stable Diffusion; remove it")
