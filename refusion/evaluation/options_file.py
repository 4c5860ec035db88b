"""The model and the sets that an options file names; the file is our own or the authors'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refusion.errors import CheckpointError, ConfigError

if TYPE_CHECKING:  # these import torch, which `refusion test --help` does not need
    from refusion.checkpoint import Checkpoint
    from refusion.config import RunConfig
    from refusion.config.parser import NamedComponent
    from refusion.official.evaluate import OfficialTest


@dataclass(frozen=True)
class OptionsFile:
    """The model and the sets that an options file names.

    Attributes:
        weights: of the model; None if the authors' file names none.
        sets: datasets of whole photos.
        seed: of the degradations of the sets.
        official: content of the authors' file; None for our own file.
    """

    weights: Path | None
    sets: Sequence[NamedComponent]
    seed: int = 0
    official: OfficialTest | None = None

    def checkpoint(self, weights: Path | None = None) -> Checkpoint:
        """Read the model.

        Args:
            weights: to use instead of those of the file; None for those of the file.

        Raises:
            ConfigError: no weights are given, neither here nor in the file.
            CheckpointError: the weights cannot be read, or do not fit the authors' file.
        """
        from refusion.checkpoint import read_checkpoint

        path = weights or self.weights
        if self.official is not None and path == self.weights:
            return self.official.read()
        return read_checkpoint(path)


def read_options_file(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    runs: Path = Path("runs"),
    weights: Path | None = None,
    needs_sets: bool = True,
) -> OptionsFile:
    """Read an options file.

    Args:
        path: the file, YAML.
        overrides: settings to change, each 'dotted.key=value'.
        runs: folder of the run folders; our own file names its model by the name of its run.
        weights: to use instead of those of the run; None for those of the run.
        needs_sets: whether the file must name sets.

    Raises:
        ConfigError: the file cannot be used.
        CheckpointError: the run of the file has no weights yet.
    """
    from refusion.config import read_yaml
    from refusion.config.official.options import is_official

    raw = read_yaml(path)
    if is_official(raw):
        return _official_file(raw, path, overrides, needs_sets)
    config = _run_config(path, overrides, needs_sets)
    weights = weights or _trained_weights(config, path, runs)
    return OptionsFile(weights, config.data.validation, config.train.seed)


def _official_file(
    raw: dict[str, Any], path: Path, overrides: Sequence[str], needs_sets: bool
) -> OptionsFile:
    """An options file of the authors' code."""
    from refusion.official.evaluate import official_test

    test = official_test(raw, str(path), overrides)
    if needs_sets and not test.sets:
        raise ConfigError(
            f"{path}: datasets: expected a set to evaluate on, got none; give a file for testing"
        )
    return OptionsFile(test.files.network or test.files.latent_unet, test.sets, official=test)


def _run_config(path: Path, overrides: Sequence[str], needs_sets: bool) -> RunConfig:
    """An options file of our own, which must describe a model that restores photos."""
    from refusion.config import load_config

    config = load_config(path, overrides)
    if config.stage == "latent_unet":
        raise ConfigError(
            f"{path}: stage latent_unet trains only the U-Net, which cannot restore photos; "
            "train stage diffusion first and give its options file"
        )
    if needs_sets and not config.data.validation:
        raise ConfigError(f"{path}: data.validation is empty; add a set to evaluate on")
    return config


def _trained_weights(config: RunConfig, path: Path, runs: Path) -> Path:
    weights = runs / config.name / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{weights}: does not exist yet; run 'train.py -opt {path}' first")
    return weights
