"""Checks that the folders and files named in an experiment file exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from refusion.config import RunConfig
from refusion.config.parser import Component
from refusion.config.sections import LatentCheckpoint, OSEDiffConfig
from refusion.errors import ConfigError
from refusion.metrics.lpips import BACKBONES
from refusion.stable_diffusion.folder import SOURCE as FOLDER

FOLDER_KEYS = ("folders", "folder", "lq", "gt")


def check_paths(config: RunConfig) -> None:
    """Check that all folders and files that a run reads exist.

    Raises:
        ConfigError: a path does not exist; the message names the key and the path.
    """
    if isinstance(config.latent_unet, LatentCheckpoint):
        path, advice = Path(config.latent_unet.checkpoint), "train stage latent_unet first"
        _check_path("latent_unet.checkpoint", path, Path.is_file, advice)
    if config.init is not None:
        _check_path("init", Path(config.init), Path.is_file)
    if config.diffbir is not None:
        _check_path("diffbir.sd", Path(config.diffbir.sd), Path.is_dir, f"get {FOLDER}")
        if config.diffbir.control is not None:
            _check_path("diffbir.control", Path(config.diffbir.control), Path.is_file)
    if config.osediff is not None:
        _check_osediff(config.osediff)
    sections = {"data.train": config.data.train}
    sections |= {f"data.validation.{i}": item for i, item in enumerate(config.data.validation)}
    for section, component in sections.items():
        _check_folders(section, component)


def _check_osediff(settings: OSEDiffConfig) -> None:
    _check_path("osediff.sd", Path(settings.sd), Path.is_dir, f"get {FOLDER}")
    if settings.lpips is not None:
        advice = (
            f"get {BACKBONES['vgg'].how}, or train without LPIPS with --no-lpips; the loss and "
            "the trained model are then different"
        )
        for key, path in vars(settings.lpips).items():
            _check_path(f"osediff.lpips.{key}", Path(path), Path.is_file, advice)


def _check_folders(section: str, component: Component) -> None:
    """Check the folders of a data set and of its degradation."""
    for key, value in sorted(component.settings.items()):
        parts = value if isinstance(value, (list, tuple)) else [value]
        for part in parts:
            if isinstance(part, Component):
                _check_folders(f"{section}.{key}", part)
            elif key in FOLDER_KEYS and part is not None:
                _check_path(f"{section}.{key}", Path(part), Path.is_dir)


def _check_path(
    key: str,
    path: Path,
    exists: Callable[[Path], bool],
    advice: str = "correct the path or put the data there",
) -> None:
    if not exists(path):
        kind = "folder" if exists is Path.is_dir else "file"
        raise ConfigError(
            f"{key}: no such {kind}: {path} (relative paths start at {Path.cwd()}); {advice}"
        )
